"""What actions and Plans come to in syft.js: the reference that other tests lean on, and its oddities."""

import numpy as np
import pytest

from fedplan.plan import split_variants
from fedplan.wire import State

from .actions import Action
from .tfjs import TfjsError, run_actions, run_plans
from .trainings import FIXTURES

A = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
B = np.array([[0.5, -1, 2], [3, 0, -0.25]], np.float32)
SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)

AS_EXPECTED = {
    "function": (Action("tf.matMul", (A, B.T)), A @ B.T),
    "method": (Action("sum", target=A), A.sum()),
    "method with args": (Action("transpose", ([1, 0],), target=A), A.T),
    "only the last part of a command counts": (Action("tf.layers.reshape", (A, [3, 2])), A.reshape(3, 2)),
    "kwargs come last, in order, whatever their names": (
        Action("tf.sum", (A,), {"dim": [0], "keepdim": True}),
        A.sum(0, keepdims=True),
    ),
    "kwargs of methods are dropped": (Action("sum", (), {"axis": 0}, target=A), A.sum()),
    "a number": (Action("tf.add", (A, 2)), A + 2),
    "a fraction": (Action("tf.mul", (A, 0.5)), A / 2),
    "a comparison": (Action("tf.greater", (A, 3)), A > 3),
    "a cast": (Action("tf.cast", (B, "int32")), B.astype(np.int32)),
    "what is not finite": (Action("tf.neg", (SPECIAL,)), -SPECIAL),
}


@pytest.fixture(scope="module")
def results():
    actions = [action for action, _ in AS_EXPECTED.values()]
    return dict(zip(AS_EXPECTED, run_actions(actions), strict=True))


@pytest.mark.parametrize("case", AS_EXPECTED)
def test_an_action_comes_to_what_it_should(results, case):
    np.testing.assert_array_equal(results[case], AS_EXPECTED[case][1])
    assert results[case].dtype == AS_EXPECTED[case][1].dtype


def test_what_syft_js_cannot_do():
    unknown, on_nothing, zero_dimension, tensors_in_a_list, split = run_actions(
        [
            Action("tf.threshold_backward", (A, B, 0)),
            Action("noSuchMethod", target=A),
            Action("tf.matMul", (A, B)),
            Action("tf.concat", ([A, B],)),
            Action("tf.split", (A, 3, 1)),
        ]
    )
    assert "threshold_backward" in str(unknown)
    assert "tensor.noSuchMethod" in str(on_nothing)
    assert "inner shapes" in str(zero_dimension)
    assert isinstance(tensors_in_a_list, TfjsError)  # it gets the placeholders' ids, not their values
    assert [part.tolist() for part in split] == [
        [[1], [4]],
        [[2], [5]],
        [[3], [6]],
    ]  # which no action can use


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no PySyft fixtures in {FIXTURES}")
def test_whole_plans_of_pysyft():
    names = [path.parent.name for path in FIXTURES.glob("*/tfjs.plan.pb")]
    tasks = []
    for name in names:
        plan = split_variants((FIXTURES / name / "as_sent_by_client.plan.pb").read_bytes())["tfjs"]
        state = State.parse((FIXTURES / name / "input.state.pb").read_bytes())
        tasks.append((plan, [tensor.array for tensor in state.tensors]))

    for name, outputs in zip(names, run_plans(tasks), strict=True):
        expected = State.parse((FIXTURES / name / "expected_output.state.pb").read_bytes()).tensors
        assert not isinstance(outputs, TfjsError), (name, outputs)
        for ours, theirs in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(ours, theirs.array, rtol=1e-5, atol=1e-5, err_msg=name)
