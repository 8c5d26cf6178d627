"""What reads or writes places of a tensor, at any number of rows."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.plan.tracing.decompositions.indexing import fill_diagonal
from tests.plan.tracing.agreement import check_training


class Contrast(nn.Module):
    """How alike each row is to the others, and not to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = F.normalize(self.layer(x), dim=1)
        alike = rows @ rows.T
        alike.fill_diagonal_(-9.0)
        return alike.logsumexp(1, keepdim=True)


def test_the_diagonal_of_the_rows_is_filled() -> None:
    check_training(Contrast, lambda rows: (torch.randn(rows, 6), torch.randn(rows, 1)), rows=(4, 7, 1))


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (11, 3), (3, 3, 3), (1, 1)])
@pytest.mark.parametrize("wrap", [False, True])
def test_it_is_filled_as_pytorch_fills_it(shape: tuple[int, ...], wrap: bool) -> None:
    value = torch.randn(shape)
    expected = value.clone().fill_diagonal_(2.0, wrap)
    assert fill_diagonal(value, 2.0, wrap) is value
    assert torch.equal(value, expected)
