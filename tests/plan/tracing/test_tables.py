"""A table that a model makes in its first run and keeps is part of its Plan; anything else is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import Plan, training_plan

X, Y = torch.randn(8, 6), torch.randint(0, 3, (8,))


class Net(nn.Module):
    """A layer, and something that it makes and keeps."""

    def __init__(self, forward: Callable[["Net", Tensor], Tensor], kept: Any = None) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("buffer", None, persistent=False)
        self.kept: Any = kept
        self.then = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self, self.layer(x))


def mask(net: Any, out: Tensor) -> Tensor:
    if net.kept is None or net.kept.shape[0] != out.shape[1]:
        net.kept = torch.ones(out.shape[1], out.shape[1]).tril()
    return out @ net.kept


def in_buffer(net: Any, out: Tensor) -> Tensor:
    if net.buffer is None:
        net.buffer = torch.full((3, 3), 2.0).triu_(1)
    return out @ net.buffer


def registered(net: Any, out: Tensor) -> Tensor:
    if not hasattr(net, "mask"):
        net.register_buffer("mask", torch.ones(3, 3).triu(1).bool(), persistent=False)
    return out[:, None, :].expand(-1, 3, -1).masked_fill(net.mask[:3, :3], 0.0).sum(1)


def positions(net: Any, out: Tensor) -> Tensor:
    """The sines and cosines of "Attention Is All You Need", for each length that was met."""
    steps = out.shape[1]
    if steps not in net.kept:
        table, angles = torch.zeros(steps, 4), torch.arange(steps)[:, None] / torch.tensor([1.0, 100.0])
        table[:, 0::2] = angles.sin()
        table[:, 1::2] = angles.cos()
        net.kept[steps] = table
    return out + net.kept[steps][:, 1]


@pytest.mark.parametrize("forward", [mask, in_buffer, registered])
def test_a_table_that_is_kept_is_part_of_the_plan(forward: Callable[[Net, Tensor], Tensor]) -> None:
    check(Net(forward))


def test_so_is_one_in_a_mapping() -> None:
    check(Net(positions, {}))


def check(model: Net) -> None:
    """Whether three steps of a Plan, of other sizes, are PyTorch's, and the model is left as it was."""
    plan = training_plan(model, F.cross_entropy, example=(X, Y))
    assert model.kept in (None, {})
    parameters = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for rows in (8, 5, 1):
        x, y = torch.randn(rows, 6), torch.randint(0, 3, (rows,))
        loss, *parameters = run(plan, x, y, parameters)
        optimizer.zero_grad()
        expected = F.cross_entropy(model(x), y)
        expected.backward()
        optimizer.step()
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(parameters, [p.detach() for p in model.parameters()])


def run(plan: Plan, x: Tensor, y: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    return list(plan(x, y, 0.1, *parameters))


def grows(net: Any, out: Tensor) -> Tensor:
    if net.kept is None:
        net.kept = torch.zeros(3)
    net.kept += 1
    return out * net.kept


def grows_in_a_view(net: Any, out: Tensor) -> Tensor:
    if net.kept is None:
        net.kept = torch.zeros(3)
    net.kept[0].add_(1)
    return out * net.kept


def is_replaced(net: Any, out: Tensor) -> Tensor:
    net.kept = 1 + (0 if net.kept is None else net.kept) * torch.ones(3)
    return out * net.kept


def comes_from_weights(net: Any, out: Tensor) -> Tensor:
    if net.kept is None:
        net.kept = net.layer.weight.detach().abs().sum(1)
    return out * net.kept


def is_filled_from_data(net: Any, out: Tensor) -> Tensor:
    if net.kept is None:
        net.kept = torch.zeros(2, 3)
        net.kept[1].copy_(out.detach().mean(0))
    return out * net.kept[0]


def is_drawn(net: Any, out: Tensor) -> Tensor:
    if net.kept is None:
        net.kept = torch.empty(3).uniform_()
    return out * net.kept


def has_the_first_rows(net: Any, out: Tensor) -> Tensor:
    if net.kept is None:
        net.kept = torch.ones(out.shape[0], 3)
    return out * net.kept


def comes_a_run_later(net: Any, out: Tensor) -> Tensor:
    found = out * (torch.zeros(3) if net.kept is None else net.kept)
    net.kept = torch.ones(3)
    return found


@pytest.mark.parametrize(
    "forward",
    [
        grows,
        grows_in_a_view,
        is_replaced,
        comes_from_weights,
        is_filled_from_data,
        is_drawn,
        has_the_first_rows,
        comes_a_run_later,
    ],
)
def test_what_is_no_table_is_refused(forward: Callable[[Net, Tensor], Tensor]) -> None:
    with pytest.raises(TraceError, match=r"sets 'kept' .* and its next run depends on it"):
        training_plan(Net(forward), F.cross_entropy, example=(X, Y))


def test_a_table_in_an_object_that_is_no_module_is_refused() -> None:
    """It would stay there after tracing."""

    class Cache:
        mask: Tensor | None = None

    def cached(net: Any, out: Tensor) -> Tensor:
        if net.kept.mask is None:
            net.kept.mask = torch.ones(3, 3).tril()
        return out @ net.kept.mask

    with pytest.raises(TraceError, match="A cache that stays the same may be filled before"):
        training_plan(Net(cached, Cache()), F.cross_entropy, example=(X, Y))
