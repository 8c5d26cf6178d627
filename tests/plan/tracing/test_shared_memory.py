"""Two tensors of a model that lie in one memory are refused, and one that is used twice is not."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import training_plan

X, Y = torch.randn(4, 5), torch.randn(4, 5)


class Two(nn.Module):
    """Two layers, of which something is done to the second."""

    def __init__(self, change: Callable[["Two"], object]) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(5, 5), nn.Linear(5, 5)
        change(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.one(x).relu())


def by_data(model: Two) -> None:
    model.other.weight.data = model.one.weight.data.t()


def by_a_new_parameter(model: Two) -> None:
    model.other.weight = nn.Parameter(model.one.weight)


def by_a_table(model: Two) -> None:
    model.table = nn.Embedding.from_pretrained(model.one.weight, freeze=False)


def by_a_buffer(model: Two) -> None:
    model.register_buffer("shown", model.one.weight.data)


def by_a_row_of_a_buffer(model: Two) -> None:
    whole = torch.zeros(2, 5)
    model.register_buffer("whole", whole)
    model.register_buffer("row", whole[1])


@pytest.mark.parametrize(
    "change", [by_data, by_a_new_parameter, by_a_table, by_a_buffer, by_a_row_of_a_buffer]
)
def test_what_shares_memory_is_refused_by_name(change: Callable[[Two], object]) -> None:
    with pytest.raises(TraceError, match=r"'(one.weight|whole)' and '(.*)' of the model share memory"):
        training_plan(Two(change), F.mse_loss, example=(X, Y))


def one_parameter(model: Two) -> None:
    model.other.weight = model.one.weight


def parts_of_one_memory(model: Two) -> None:
    """As flattened parameters are."""
    flat = torch.randn(50)
    model.one.weight.data, model.other.weight.data = flat[:25].view(5, 5), flat[25:].view(5, 5)


def columns_of_one_memory(model: Two) -> None:
    whole = torch.randn(5, 10)
    model.one.weight.data, model.other.weight.data = whole[:, ::2], whole[:, 1::2]


def frozen(model: Two) -> None:
    model.one.requires_grad_(False)
    model.other.weight = nn.Parameter(model.one.weight, requires_grad=False)


@pytest.mark.parametrize("change", [one_parameter, parts_of_one_memory, columns_of_one_memory, frozen])
def test_what_is_one_tensor_or_apart_or_frozen_is_traced(change: Callable[[Two], object]) -> None:
    training_plan(Two(change), F.mse_loss, example=(X, Y))
