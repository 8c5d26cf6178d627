"""A step of an optimizer that is recorded once, and used for all parameters that are alike."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.plan import Plan, model_parameters, training_plan
from fedplan.plan.tracing.optimizer import update
from tests.plan.tracing.optimizer.test_update import batch, compare, settings, zeros


class Deep(nn.Module):
    """Five layers that are alike, and one more that the loss ignores."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(6, 6, bias=False) for _ in range(5)))
        self.unused = nn.Linear(6, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).tanh()


def made(make: Any) -> Plan:
    torch.manual_seed(0)
    return training_plan(Deep(), F.cross_entropy, example=batch(), optimizer=make)


@pytest.mark.some(12)
@pytest.mark.parametrize("make", list(settings()))
def test_the_plan_has_the_same_operations_and_results(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update, "_WORTH_IT", 1000)
    direct = made(make)
    monkeypatch.setattr(update, "_WORTH_IT", 1)
    recorded = made(make)
    assert Counter(node.op for node in recorded.graph.nodes) == Counter(
        node.op for node in direct.graph.nodes
    )
    given = *batch(), 0.05, *model_parameters(Deep()), *zeros(direct)
    for ours, theirs in zip(recorded(*given), direct(*given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.SGD])
def test_it_equals_the_optimizer(kind: Any) -> None:
    torch.manual_seed(0)
    start = Deep()
    plan = training_plan(start, F.cross_entropy, example=batch(), optimizer=kind)
    compare(plan, start, lambda eager: kind(eager.parameters(), lr=0.05), 0.05)
