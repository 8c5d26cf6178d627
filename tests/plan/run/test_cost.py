"""What the check says of an operation's memory and work, held against what its kernel takes."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from fedplan.errors import FedplanError
from fedplan.plan import OPS, Limits
from fedplan.plan.ir.graph import Arg, Graph, Node, Ref
from fedplan.plan.ops import dtype_name
from fedplan.plan.run.check import Cost, measure
from fedplan.plan.run.interpreter import interpret

MANY = 400
"""Elements of a column and of a row; all pairs of them are what an estimate must not overlook."""

SMALL = 64 * 1024
"""Bytes that nobody counts."""

FAR = Limits(max_bytes=2**80, max_work=2**80)
NO_LIMITS = Limits(max_bytes=2**62, max_work=2**62)


def taken(function: Any) -> tuple[int, int]:
    """The most bytes that a function's kernels hold at one time, and how many they ask for in all."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        function()
    kineto: Any = found.profiler
    events = [event for event in kineto.kineto_results.events() if event.name() == "[memory]"]
    now = most = whole = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        whole += max(event.nbytes(), 0)
        most = max(most, now)
    return most, whole


def checked(op: str, args: Sequence[Arg], tensors: Sequence[torch.Tensor]) -> tuple[Graph, Cost] | None:
    """The Plan of one operation, and what the check says of it; None where it cannot be called so."""
    given = len(tensors)
    shapes = [(tuple(t.shape), dtype_name(t.dtype)) for t in tensors]
    for count in range(1, 8):
        node = Node(op, tuple(args), tuple(range(given, given + count)))
        graph = Graph(tuple(range(given)), (), (node,), ())
        try:
            cost = measure(graph, shapes, NO_LIMITS).cost
            interpret(graph, tensors)
        except FedplanError as error:
            if "values instead of" not in str(error):
                return None
        else:
            return graph, cost
    return None


def assert_foreseen(graph: Graph, tensors: Sequence[torch.Tensor], cost: Cost) -> None:
    most, whole = taken(lambda: interpret(graph, tensors))
    assert most <= 1.5 * cost.peak_bytes + SMALL
    assert (whole - SMALL) / 8 <= cost.work  # whoever asks for memory writes to it


def of_several_tensors() -> Iterator[str]:
    for name, op in OPS.items():
        required = [argument for argument in op.arguments if argument.required]
        if len(required) > 1 and all(argument.type == "Tensor" for argument in required):
            yield name


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_all_pairs_of_a_column_and_a_row_are_foreseen(dtype: torch.dtype) -> None:
    column, row = torch.ones(MANY, 1, dtype=dtype), torch.ones(1, MANY, dtype=dtype)
    tried = []
    for name in of_several_tensors():
        required = [argument for argument in OPS[name].arguments if argument.required]
        tensors = [column, *(row for _ in required[1:])]
        found = checked(name, list(map(Ref, range(len(tensors)))), tensors)
        if found is not None:
            graph, cost = found
            assert_foreseen(graph, tensors, cost)
            tried.append(name)
    assert "aten.mse_loss.default" in tried or dtype == torch.int64
    assert len(tried) > 30


PICTURE = torch.ones(1, 1, 3000, 1)
FEW = (1, 3000)


@pytest.mark.parametrize(
    ("op", "args", "tensors"),
    [
        ("aten._upsample_bilinear2d_aa.default", (Ref(0), FEW, False), [PICTURE]),
        ("aten._upsample_bicubic2d_aa.default", (Ref(0), FEW, False), [PICTURE]),
        ("aten._upsample_bilinear2d_aa.default", (Ref(0), (2, 1), False, 1e-6), [PICTURE]),
        ("aten._upsample_bicubic2d_aa.default", (Ref(0), (2, 1), False, 1e-6), [PICTURE]),
        ("aten.roll.default", (Ref(0), (1,) * 20, (0,) * 20), [torch.ones(10_000)]),
        ("aten.conv_transpose1d.default", (Ref(0), Ref(1)), [torch.ones(1, 64, 500), torch.ones(64, 1, 64)]),
        (
            "aten.conv_transpose2d.input",
            (Ref(0), Ref(1)),
            [torch.ones(1, 16, 30, 30), torch.ones(16, 1, 9, 9)],
        ),
        (
            "aten.index_put.default",
            (Ref(0), (Ref(1), Ref(2)), Ref(3)),
            [
                torch.ones(2, 2),
                torch.ones(MANY, 1, dtype=torch.int64),
                torch.ones(1, MANY, dtype=torch.int64),
                torch.ones(()),
            ],
        ),
        ("aten.cross_entropy_loss.default", (Ref(0), Ref(1)), [torch.ones(400, 400), torch.ones(400).long()]),
        ("aten.matmul.default", (Ref(0), Ref(1)), [torch.ones(40, 1, 1, 400), torch.ones(40, 400, 1)]),
    ],
)
def test_what_a_kernel_holds_on_its_way_is_foreseen(
    op: str, args: tuple[Arg, ...], tensors: list[torch.Tensor]
) -> None:
    found = checked(op, args, tensors)
    assert found is not None
    assert_foreseen(found[0], tensors, found[1])


def test_a_filter_of_infinite_width_is_foreseen() -> None:
    for op in ("aten._upsample_bilinear2d_aa.default", "aten._upsample_bicubic2d_aa.default"):
        node = Node(op, (Ref(0), (2, 2), False, 5e-324), (1,))
        cost = measure(Graph((0,), (), (node,), (1,)), [((1, 1, 3, 3), "float32")], FAR).cost
        assert min(cost.peak_bytes, cost.work) > 2**62


@pytest.mark.parametrize(("rank", "name"), [(1, "default"), (2, "input"), (3, "input")])
def test_a_transposed_convolution_works_as_much_under_each_of_its_names(rank: int, name: str) -> None:
    x, weight = (1, 8, *[6] * rank), (8, 2, *[3] * rank)
    ones, zeros = (1,) * rank, (0,) * rank
    general = (None, (2,) * rank, zeros, ones, True, zeros, 1)
    short = Node(f"aten.conv_transpose{rank}d.{name}", (Ref(0), Ref(1), None, (2,) * rank), (2,))
    long = Node("aten.convolution.default", (Ref(0), Ref(1), *general), (2,))
    inputs = [(x, "float32"), (weight, "float32")]
    costs = [measure(Graph((0, 1), (), (node,), (2,)), inputs).cost for node in (short, long)]
    assert costs[0] == costs[1]
    assert costs[0].work == 2 * (8 * 6**rank) * (2 * 3**rank)
