"""What a loss, a metric and a learning rate must be; each refusal says what to do."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError, UnsupportedOpError
from fedplan.plan import training_plan

EXAMPLE = torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64)


class ReadsNumPy(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.largest = x.numpy().max()
        return super().forward(x)


class ReadsItem(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * x.sum().item()


class Sparse(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.to_sparse())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": lambda output, target: 1.0}, "the loss returns a number, .* leave `.item"),
        (
            {"loss": lambda output, target: F.cross_entropy(output, target).item()},
            "the loss returns a number",
        ),
        ({"loss": lambda output, target: None}, "the loss returns a NoneType, .* `return`"),
        ({"loss": lambda output, target: F.cross_entropy(output, target, reduction="none")}, "take its mean"),
        ({"metrics": {"share": lambda output, target: 0.5}}, "the metric 'share' returns a number"),
        ({"loss": lambda output, target, step: output.sum() * step.config["mu"]}, r"pass config=\['mu'\]"),
        (
            {"loss": lambda output, target, step: output.sum() * step.config["mu"], "config": ["nu"]},
            r"pass config=\['nu', 'mu'\]",
        ),
        (
            {"model": ReadsNumPy(4, 3)},
            r"test_step.py:\d+ in ReadsNumPy: .* `\.numpy\(\)`.* compute with torch",
        ),
        (
            {"model": ReadsItem(4, 3)},
            r"test_step.py:\d+ in ReadsItem.*`\.item\(\)`.* Keep the value a tensor",
        ),
        ({"model": Sparse(4, 3)}, r"test_step.py:\d+ in Sparse: a Plan has no sparse tensors"),
        ({"loss": nn.CrossEntropyLoss}, r"the loss is the class CrossEntropyLoss: call it"),
        ({"metrics": {"off": nn.L1Loss}}, r"the metric 'off' is the class L1Loss"),
        ({"optimizer": "adam"}, "`optimizer` is 'adam': give a class such as torch.optim.Adam"),
        ({"lr": None}, "lr is a NoneType: give the client_config key"),
        ({"lr": torch.tensor(0.1)}, "lr is a Tensor"),
        ({"lr": -1.0}, "lr is -1.0: a learning rate is a number from 0 up"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"metrics": {"loss": F.l1_loss}}, "a metric has the name 'loss'"),
        ({"example": ([[1.0] * 4], [0])}, "`example` holds no tensor: make tensors"),
    ],
)
def test_what_a_step_must_not_be(changes: dict[str, Any], message: str) -> None:
    given = {"model": nn.Linear(4, 3), "loss": F.cross_entropy, "example": EXAMPLE} | changes
    with pytest.raises((TraceError, UnsupportedOpError), match=message):
        training_plan(**given)
