"""An input takes tensors, arrays and numbers that fit it, and says why another does not."""

import numpy as np
import pytest
import torch

from fedplan.errors import PlanFormatError, PlanInputError
from fedplan.plan import PlanInput
from fedplan.plan.signature import leader, rows_of

RATE = PlanInput("lr", (1,), "float32")
ROWS = PlanInput("data", (None, 3), "float32")
COUNT = PlanInput("steps", (), "int64")


def test_a_number_becomes_the_inputs_one_element() -> None:
    assert torch.equal(RATE.tensor(0.5), torch.tensor([0.5]))
    assert torch.equal(RATE.tensor(1), torch.tensor([1.0]))
    assert torch.equal(COUNT.tensor(3), torch.tensor(3))
    assert torch.equal(COUNT.tensor(np.float64(3.0)), torch.tensor(3))


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf"), 2**70])
def test_a_number_that_is_no_such_integer_is_refused(value: float) -> None:
    with pytest.raises(PlanInputError, match="the argument 'steps' cannot become a tensor"):
        COUNT.tensor(value)


def test_arrays_and_tensors_are_taken_as_they_are_side_by_side_in_memory() -> None:
    array = np.arange(6, dtype=np.float32).reshape(3, 2).T
    for value in (array, torch.from_numpy(np.ascontiguousarray(array.T)).t()):
        tensor = ROWS.tensor(value)
        assert tensor.is_contiguous()
        assert tensor.tolist() == array.tolist()


def test_gradients_stop_at_a_plan() -> None:
    assert not ROWS.tensor(torch.ones(2, 3, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (torch.ones(2, 4), r"has the shape \(2 × 4\), the Plan needs \(any × 3\)"),
        (torch.ones(2, 3).double(), r"has the dtype float64, the Plan needs float32: convert it"),
        ([[1.0, 2.0, 3.0]], "is a list; a tensor, array or number is needed"),
        (1.0, r"the shape \(\), the Plan needs \(any × 3\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(value: object, why: str) -> None:
    with pytest.raises(PlanInputError, match=why):
        ROWS.tensor(value)


def test_an_input_that_does_not_say_what_it_takes_takes_anything() -> None:
    anything = PlanInput("x")
    assert anything.tensor(True).dtype == torch.bool
    assert anything.tensor(np.ones(3)).dtype == torch.float64


def test_an_input_says_what_it_takes_for_so_many_rows() -> None:
    assert ROWS.with_rows(7) == ((7, 3), "float32")
    assert COUNT.with_rows(7) == ((), "int64")
    for unknown in (PlanInput("x"), PlanInput("x", (None,)), PlanInput("x", dtype="int64")):
        with pytest.raises(PlanFormatError, match="does not say the shape and dtype of its input 'x'"):
            unknown.with_rows(7)


def test_random_inputs_have_the_rows_of_the_first_input_that_takes_any_number() -> None:
    assert leader([RATE, ROWS, ROWS]) == 1
    assert leader([RATE, COUNT]) is None
    assert rows_of([RATE, ROWS], [torch.zeros(1), torch.zeros(5, 3)]) == 5
    assert rows_of([RATE, COUNT], [torch.zeros(1), 3]) == 1
    assert rows_of([ROWS], [3]) == 1
    assert rows_of([RATE, ROWS], [torch.zeros(1)]) == 1
