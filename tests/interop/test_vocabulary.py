"""The interpreter of tfjs's vocabulary computes what tfjs-core 1.2.5 and 1.7.4 do, function by function."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from fedplan.errors import PlanError
from fedplan.plan.variants.tfjs import interpreter
from fedplan.plan.variants.tfjs.vocabulary import DTYPES, FUNCTIONS, METHODS
from fedplan.wire import State, schema
from tests.plan.variants.tfjs.test_interpreter import BROKEN

from .actions import Action, Array, plan_of_action
from .tfjs import Result, TfjsError, run_actions, run_plans
from .trainings import FIXTURES

F = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
G = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
POSITIVE = np.abs(F) + np.float32(0.5)
HALVES = np.array([-2.5, -1.5, -0.5, -0.0, 0.5, 1.5, 2.5, 2.7], np.float32)
ODD = np.array([np.nan, np.inf, -np.inf, 0, -3, 7], np.float32)
N = np.array([[-3, 0, 2], [5, -1, 4]], np.int32)
M = np.array([[2, 3, -2], [3, 2, 1]], np.int32)
T = np.array([[True, False, True], [False, False, True]])
PICTURES = np.random.default_rng(2).normal(size=(2, 6, 7, 3)).astype(np.float32)
KERNEL = np.random.default_rng(3).normal(size=(3, 2, 3, 4)).astype(np.float32)
VOLUMES = np.random.default_rng(5).normal(size=(2, 4, 5, 6, 3)).astype(np.float32)
VOLUME_KERNEL = np.random.default_rng(6).normal(size=(2, 2, 3, 3, 4)).astype(np.float32)
BATCH = np.random.default_rng(4).normal(size=(2, 3, 4)).astype(np.float32)


def unary(name: str, *more: Array) -> list[Action]:
    return [Action(f"tf.{name}", (value,)) for value in (F, HALVES, N, *more)]


def binary(name: str) -> list[Action]:
    """Tensors and numbers, floats and integers, also mixed, and a row and a column that are broadcast."""
    pairs = [(F, G), (F, G[0]), (F[:, :1], G), (F, 2), (F, 0.5), (2, F), (N, M), (N, 2), (N, F[:2, :3])]
    return [Action(f"tf.{name}", pair) for pair in pairs]


def reduction(name: str, *values: Array) -> list[Action]:
    axes: list[tuple[object, ...]] = [(), ([0],), ([1], True), ([0, 1],), (1,), (-1, True)]
    return [Action(f"tf.{name}", (value, *rest)) for value in values for rest in axes]


CASES: Mapping[str, Sequence[Action]] = {
    **{name: unary(name) for name in (
        "abs", "ceil", "exp", "floor", "neg", "round", "sigmoid", "sign", "sin", "cos", "tan", "tanh", "relu",
        "expm1", "cosh", "sinh", "atan", "asinh", "clone", "onesLike", "zerosLike",
        "reciprocal",
    )},
    **{name: [Action(f"tf.{name}", (value,)) for value in (POSITIVE, HALVES, N)] for name in
       ("log", "log1p", "sqrt", "rsqrt", "acosh")},
    "square": [Action("tf.square", (value,)) for value in (F, HALVES)],
    "erf": [Action("tf.erf", (value,)) for value in (POSITIVE, np.abs(HALVES), np.abs(N))],
    **{name: [Action(f"tf.{name}", (np.clip(F, -0.99, 0.99),))] for name in ("acos", "asin", "atanh")},
    **{name: unary(name, ODD) for name in ("isNaN", "isInf")},
    **{name: binary(name) for name in ("add", "sub", "mul", "maximum", "minimum", "equal", "notEqual", "less",
                                        "lessEqual", "greater", "greaterEqual", "atan2")},
    "div": [*binary("div")[:5], Action("tf.div", (N, M)), Action("tf.div", (N, 2))],
    "mod": [Action("tf.mod", pair) for pair in ((F, G), (F, 0.7), (HALVES, -2), (N, M))],
    "pow": [Action("tf.pow", pair) for pair in ((POSITIVE, G), (F, 2), (2, F), (N, np.abs(M)))],
    **{name: [Action(f"tf.{name}", (T, ~T)), Action(f"tf.{name}", (T, T[0]))] for name in
       ("logicalAnd", "logicalOr", "logicalXor")},
    "logicalNot": [Action("tf.logicalNot", (T,))],
    "where": [Action("tf.where", (T, N, M)), Action("tf.where", (F > 0, F, G))],
    "sum": reduction("sum", F, N, T),
    "mean": reduction("mean", F, N),
    "prod": reduction("prod", F, T),
    "max": reduction("max", F, N),
    "min": reduction("min", F, N),
    "any": reduction("any", T),
    "all": reduction("all", T),
    "argMax": [Action("tf.argMax", (F,)), Action("tf.argMax", (F, 1)), Action("tf.argMax", (np.round(F), 0))],
    "argMin": [Action("tf.argMin", (F,)), Action("tf.argMin", (F, 1))],
    "cumsum": [
        Action("tf.cumsum", args)
        for args in (
            (F,), (N, 1), (F, 0, True), (N, 1, True, True), (N, 0, False, True), (BATCH, 1), (BATCH, 2)
        )
    ],
    "cast": [Action("tf.cast", (value, to)) for value in (HALVES, N, T) for to in DTYPES],
    "reshape": [Action("tf.reshape", args) for args in ((F, [4, 3]), (F, [2, -1]), (F[:1, :1], []))],
    "transpose": [Action("tf.transpose", (F,)), Action("tf.transpose", (BATCH, [2, 0, 1]))],
    "slice": [
        Action("tf.slice", args)
        for args in ((F, [1, 0], [2, 3]), (F, [0, 1], [-1, -1]), (F, [1], [1]), (F, 1, 2))
    ],
    "stridedSlice": [
        Action("tf.stridedSlice", (PICTURES, [0, 1, 0, 0], [0, 6, 5, 0], [1, 2, 2, 1], 9, 9)),
        Action("tf.stridedSlice", (F, [0, 1], [3, 4], [1, 2])),
        Action("tf.stridedSlice", (F, [-2, 0], [0, 0], [1, 1], 2, 3)),
        Action("tf.stridedSlice", (F, [-9, 0], [-1, 0], [1, 1], 2, 2)),
        Action("tf.stridedSlice", (F, [1, 0], [0, 0], [2, 1], 2, 3)),
    ],
    "pad": [
        Action("tf.pad", args)
        for args in (
            (F, [[1, 0], [0, 2]]), (F, [[0, 0], [1, 1]], 2.5), (N, [[0, 1], [0, 0]], 0),
            (PICTURES, [[0, 0], [1, 0], [0, 2], [1, 1]]),
        )
    ],
    "tile": [Action("tf.tile", args) for args in ((F, [2, 1]), (N, [1, 3]), (VOLUMES, [1, 2, 1, 1, 2]))],
    "reverse": [Action("tf.reverse", (F, [1])), Action("tf.reverse", (BATCH, [0, 2]))],
    "gather": [
        Action("tf.gather", (F, np.array([2, 0], np.int32))),
        Action("tf.gather", (F, np.array([[1, 3], [0, 0]], np.int32), 1)),
        Action("tf.gather", (N, np.array(1, np.int32))),
        Action("tf.gather", (PICTURES, np.array([5, 0, 5], np.int32), 2)),
    ],
    "gatherND": [
        Action("tf.gatherND", (value, np.array(places, np.int32)))
        for value, places in (
            (F, [[2, 1], [0, 3]]), (N, [[1, 2]]), (F, [[1], [0], [1]]), (PICTURES, [[1, 5], [0, 0]]),
            (BATCH, [[[1, 2], [0, 0]], [[0, 1], [1, 1]]]),
        )
    ],
    "scatterND": [
        Action("tf.scatterND", (np.array(places, np.int32), values, shape))
        for places, values, shape in (
            ([[2, 1], [0, 3], [2, 1]], F[0, :3], [3, 4]), ([[1], [1]], N, [4, 3]), ([[2]], N[:1], [3, 3]),
            ([[0], [4], [0]], F, [5, 4]),
        )
    ],
    "oneHot": [Action("tf.oneHot", (np.array([2, 0, -100, 7], np.int32), 3))],
    "matMul": [
        Action("tf.matMul", (F, G.T)),
        Action("tf.matMul", (F, G, True, False)),
        Action("tf.matMul", (F, G, False, True)),
        Action("tf.matMul", (BATCH, BATCH, False, True)),
    ],
    "dot": [Action("tf.dot", (F[0], G[0])), Action("tf.dot", (F, G[0]))],
    "softmax": [Action("tf.softmax", (F,)), Action("tf.softmax", (F, 1))],
    "norm": [Action("tf.norm", (F,))],
    "expandDims": [Action("tf.expandDims", args) for args in ((F,), (F, 1), (N, 2))],
    "squeeze": [Action("tf.squeeze", (F[:1],)), Action("tf.squeeze", (F[:1, :1], [0]))],
    "conv2d": [
        Action("tf.conv2d", (PICTURES, KERNEL, stride, "valid", "NHWC", dilation))
        for stride, dilation in (([1, 1], [1, 1]), ([2, 1], [1, 1]), ([1, 1], [2, 3]))
    ],
    "conv1d": [
        Action("tf.conv1d", (PICTURES[:, 0], KERNEL[0], stride, "valid", "NWC", dilation))
        for stride, dilation in ((1, 1), (2, 1), (1, 2))
    ],
    "conv3d": [
        Action("tf.conv3d", (VOLUMES, VOLUME_KERNEL, stride, "valid", "NDHWC", dilation))
        for stride, dilation in (([1, 1, 1], [1, 1, 1]), ([2, 1, 2], [1, 1, 1]), ([1, 1, 1], [1, 2, 1]))
    ],
    "depthwiseConv2d": [
        Action("tf.depthwiseConv2d", (PICTURES, kernel, stride, "valid", "NHWC", dilation))
        for kernel in (KERNEL[..., :1], KERNEL)
        for stride, dilation in (([1, 1], [1, 1]), ([2, 2], [1, 1]), ([1, 1], [2, 3]))
    ],
    "maxPool": [
        Action("tf.maxPool", (PICTURES, [2, 3], [2, 1], "valid")),
        Action("tf.maxPool", (PICTURES, 2, 2, "valid")),
    ],
    "avgPool": [Action("tf.avgPool", (PICTURES, [2, 3], [2, 1], "valid"))],
    "fill": [Action("tf.fill", args) for args in (([2, 3], 1.5, "float32"), ([], 2, "int32"), ([2], 3.0))],
    "zeros": [Action("tf.zeros", ([2, 3],)), Action("tf.zeros", ([2], "int32"))],
    "scalar": [Action("tf.scalar", args) for args in ((1.5,), (2, "int32"), (True, "bool"))],
    "range": [Action("tf.range", (0, 5, 2, "int32")), Action("tf.range", (1, 3))],
    "eye": [Action("tf.eye", (3,))],
}  # fmt: skip

ALL = [(name, action) for name, actions in CASES.items() for action in actions]


def in_python(plan: bytes, inputs: Sequence[Array | float]) -> list[Array]:
    role = schema.Plan.decode(plan).role
    assert role is not None
    return [
        output.numpy() for output in interpreter.execute(role, [torch.as_tensor(item) for item in inputs])
    ]


IN_NODE = ["Node", "Node, tfjs-core 1.2.5"]


@pytest.fixture(scope="module", params=IN_NODE)
def in_tfjs(request: pytest.FixtureRequest) -> list[Result | TfjsError]:
    return run_actions((action for _, action in ALL), request.param)


def test_every_function_has_a_case() -> None:
    assert set(CASES) == set(FUNCTIONS)


@pytest.mark.parametrize("index", range(len(ALL)), ids=[f"{name}-{i}" for i, (name, _) in enumerate(ALL)])
def test_a_function_computes_the_same(in_tfjs: list[Result | TfjsError], index: int) -> None:
    theirs = in_tfjs[index]
    assert isinstance(theirs, np.ndarray), theirs
    (ours,) = in_python(*plan_of_action(ALL[index][1]))
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


METHOD_ARGUMENTS: Mapping[str, Sequence[object]] = {
    "concat": (G, 1), "cast": ("int32",), "reshape": ([4, 3],), "slice": ([1, 0], [2, 2]),
    "matMul": (G, False, True),
    **dict.fromkeys(
        ("add", "sub", "mul", "div", "pow", "mod", "maximum", "minimum", "equal", "less", "greater"),
        (POSITIVE,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("runtime", IN_NODE)
def test_every_method_is_one_and_computes_the_same(runtime: str) -> None:
    actions = [Action(name, METHOD_ARGUMENTS.get(name, ()), target=POSITIVE) for name in METHODS]
    for action, theirs in zip(actions, run_actions(actions, runtime), strict=True):
        assert isinstance(theirs, np.ndarray), (action.command, theirs)
        (ours,) = in_python(*plan_of_action(action))
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6, err_msg=action.command)


REFUSED = [
    Action("tf.where", (T, F, G)),
    Action("tf.concat", ([F, G],)),
    Action("tf.matMul", (F, G)),
    Action("tf.matMul", (F, BATCH)),
    Action("tf.oneHot", (np.array([0], np.int32), 1)),
    Action("tf.slice", (F, [0, 3], [3, 3])),
    Action("tf.conv2d", (PICTURES, KERNEL, [2, 2], "valid", "NHWC", [2, 2])),
    Action("tf.reshape", (F, [5, 5])),
    Action("tf.gatherND", (F, np.array([[3, 0]], np.int32))),
    Action("tf.scatterND", (np.array([[3]], np.int32), N[:1], [3, 3])),
    Action("tf.scatterND", (np.array([[0]], np.int32), N, [3, 3])),
    Action("tf.squeeze", (F, [0])),
    Action("tf.tile", (F, [2])),
    Action("tf.depthwiseConv2d", (PICTURES[..., :2], KERNEL, [1, 1], "valid")),
    Action("tf.conv1d", (PICTURES[:, 0], KERNEL[0], 2, "valid", "NWC", 2)),
    Action("tf.split", (F, 2, 0)),
    Action("tf.util.flatten", (F,)),
    Action("tf.transpose", (F, 0, 1)),
]


@pytest.mark.parametrize("runtime", IN_NODE)
def test_what_tfjs_refuses_is_refused(runtime: str) -> None:
    for action, theirs in zip(REFUSED, run_actions(REFUSED, runtime), strict=True):
        assert not isinstance(theirs, np.ndarray), action.command
        with pytest.raises(PlanError):
            in_python(*plan_of_action(action))


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no PySyft fixtures in {FIXTURES}")
def test_of_pysyfts_translations_the_broken_ones_are_those_that_tfjs_cannot_run() -> None:
    tasks, expected, names = [], [], []
    for path in sorted(FIXTURES.glob("ops/*/tfjs.plan.pb")):
        tasks.append((path.read_bytes(), [t.array for t in _tensors(path.parent / "input.state.pb")]))
        expected.append([t.array for t in _tensors(path.parent / "expected_output.state.pb")])
        names.append(path.parent.name)
    broken = {
        name
        for name, made, wanted in zip(names, run_plans(tasks), expected, strict=True)
        if isinstance(made, TfjsError) or not wanted or not all(map(_close, made, wanted))
    }
    assert broken == set(BROKEN)


def _tensors(path):  # type: ignore[no-untyped-def]
    return State.parse(path.read_bytes()).tensors


def _close(ours: Result, theirs: Array) -> bool:
    return (
        isinstance(ours, np.ndarray)
        and ours.shape == theirs.shape
        and bool(np.allclose(ours, theirs, rtol=1e-5, atol=1e-5))
    )
