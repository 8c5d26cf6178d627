"""Losses of many kinds: a step with each of them equals eager PyTorch, at any batch size."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.plan.tracing.agreement import Batch, check_training


def of(*shape: int) -> Batch:
    return lambda rows: (torch.randn(rows, *shape), torch.zeros(rows))


def _weighted(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    weight = torch.ones_like(target)
    weight[target < 0] = 0.1
    return (weight * (output - target) ** 2).mean()


LOSSES: dict[
    str, tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor], Callable[[int], torch.Tensor]]
] = {
    "multilabel margin": (
        F.multilabel_margin_loss,
        lambda rows: torch.tensor([[1, 0, -1], [2, -1, 1], [-1, 0, 1]])[torch.arange(rows) % 3],
    ),
    "weighed distance": (
        lambda o, y: F.l1_loss(o, y, weight=y.square(), reduction="sum"),
        lambda rows: torch.randn(rows, 3),
    ),
    "weighed truths": (
        lambda o, y: F.binary_cross_entropy(o.sigmoid(), y, weight=torch.tensor([0.5, 1.0, 2.0])),
        lambda rows: torch.rand(rows, 3),
    ),
    "truths, each with its weight": (
        lambda o, y: F.binary_cross_entropy(o.sigmoid(), y.round(), weight=y + 0.5, reduction="sum"),
        lambda rows: torch.rand(rows, 3),
    ),
    "shares": (F.cross_entropy, lambda rows: torch.rand(rows, 3).softmax(1)),
    "shares, smoothed": (
        functools.partial(F.cross_entropy, label_smoothing=0.2, reduction="sum"),
        lambda rows: torch.rand(rows, 3).softmax(1),
    ),
    "shares, weighed and smoothed": (
        functools.partial(F.cross_entropy, weight=torch.tensor([0.5, 1.0, 2.0]), label_smoothing=0.1),
        lambda rows: torch.rand(rows, 3).softmax(1),
    ),
    "shares of each place of a sequence": (
        lambda o, y: (
            F.cross_entropy(o.unsqueeze(2) * y[:, :1], y, torch.tensor([0.5, 1.0, 2.0]), reduction="none")
            .square()
            .mean()
        ),
        lambda rows: torch.rand(rows, 3, 2).softmax(1),
    ),
    "multi margin": (functools.partial(F.multi_margin_loss, p=2), lambda rows: torch.arange(rows) % 3),
    "one-hot": (
        lambda o, y: (o * F.one_hot(y, 3)).sum(1).tanh().mean(),
        lambda rows: torch.arange(rows) % 3,
    ),
    "arc": (
        lambda o, y: F.cross_entropy(
            torch.where(F.one_hot(y, 3).bool(), (o.tanh() * 0.9).acos().add(0.5).cos(), o.tanh()) * 30, y
        ),
        lambda rows: torch.arange(rows) % 3,
    ),
    "mask that is written under": (
        _weighted,
        lambda rows: torch.randn(rows, 3),
    ),
}


@pytest.mark.some(6)
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    loss, target = LOSSES[name]
    torch.manual_seed(0)
    check_training(lambda: nn.Linear(6, 3), lambda rows: (torch.randn(rows, 6), target(rows)), loss)


@pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="PyTorch has it since 2.13")
def test_a_loss_of_many_classes_in_chunks_is_computed_at_once() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.classes = nn.Linear(6, 4), nn.Parameter(torch.randn(9, 4))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return F.linear_cross_entropy(self.before(x), self.classes, y, reduction="none")

    torch.manual_seed(0)
    check_training(Head, lambda rows: ([torch.randn(rows, 6), torch.arange(rows) % 9], torch.zeros(rows)))


class Speech(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).log_softmax(-1)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("as_tensors", [True, False])
def test_a_loss_over_alignments(reduction: str, as_tensors: bool) -> None:
    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        rows = output.shape[0]
        lengths, wanted = torch.full((rows,), 12), 3 - torch.arange(rows) % 2
        cost = F.ctc_loss(
            output.transpose(0, 1),
            target,
            lengths,
            wanted if as_tensors else torch.full((rows,), 3),
            reduction=reduction,
            zero_infinity=True,
        )
        return cost if reduction != "none" else cost.square().mean()

    torch.manual_seed(0)
    check_training(Speech, lambda rows: (torch.randn(rows, 12, 6), torch.randint(1, 5, (rows, 3))), loss)
