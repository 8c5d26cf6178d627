"""What a Plan makes of the author's example is compared with what the step itself makes of it."""

import functools
import numbers
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import PlanInputSpec, trace, training_plan

DATA = [PlanInputSpec(PlanInputSpec.TYPE_DATA)]


@pytest.mark.parametrize(
    "is_number",
    [
        lambda n: isinstance(n, int),
        lambda n: type(n) is int,
        lambda n: isinstance(n, numbers.Integral),
    ],
)
def test_a_step_that_asks_for_the_type_of_a_size_is_refused(is_number: Callable[[object], bool]) -> None:
    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x * (2 if is_number(x.shape[0]) else 3)

    with pytest.raises(
        TraceError, match=r"first 3, and that of the step itself .*first 2: .*asks for a type"
    ):
        trace(doubled, torch.ones(4, 2), inputs=DATA)


def test_so_is_a_training_step() -> None:
    class Net(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if isinstance(len(x.shape) + x.shape[0], int) else 2 * x)

    with pytest.raises(TraceError, match="the Plan's 'loss' of the example is"):
        training_plan(Net(3, 2), F.mse_loss, example=(torch.randn(4, 3), torch.randn(4, 2)))


def test_a_step_that_does_something_else_with_one_row_is_refused() -> None:
    """PyTorch copies what was transposed, but for one row, where it lies in memory as a copy would."""

    def turned(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        whole = x * 1.0
        by_time = whole.transpose(0, 1).contiguous()
        by_time.relu_()
        return whole.sum(), by_time.sum()

    with pytest.raises(TraceError, match="with one row, the Plan's 'output 0'"):
        trace(turned, -torch.ones(4, 3, 2), inputs=DATA)


def test_a_step_whose_example_has_no_values_that_it_can_use_is_traced() -> None:
    step = training_plan(
        nn.Linear(3, 2), F.cross_entropy, example=(torch.randn(4, 3), torch.full((4,), 7))
    )  # there are two classes
    assert step.example[1].tolist() == [7] * 4


def test_what_is_no_number_equals_itself() -> None:
    x = torch.tensor([[-1.0, 4.0]])
    assert trace(torch.sqrt, x)(x)[0].isnan().tolist() == [[True, False]]


def test_a_cache_by_the_number_of_rows_is_refused_with_the_reason() -> None:
    @functools.cache
    def mask(rows: int) -> torch.Tensor:
        return torch.ones(rows, rows).tril()

    with pytest.raises(TraceError, match="a number of rows is a key"):
        trace(lambda x: mask(x.shape[0]) @ x, torch.ones(4, 2), inputs=DATA)
