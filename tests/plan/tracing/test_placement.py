"""Where a model is when it is traced makes no difference: the Plan is that of the same model on the CPU."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import model_parameters, training_plan
from tests.devices import DEVICES

X, Y = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
WEIGHT = torch.tensor([1.0, 2.0, 0.5])
OPTIMIZERS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "RMSprop": torch.optim.RMSprop}


class Mixed(nn.Module):
    """Layers for which PyTorch has other kernels on a GPU, and tensors made on a device that is named."""

    def __init__(self, device: str | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.device = device
        self.recurrent = nn.LSTM(4, 4, batch_first=True)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 3)
        self.register_buffer("order", torch.arange(5).flip(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.scaled_dot_product_attention(x, x, x), 0.1)[:, self.order]
        shape = (1, x.shape[0], 4)
        if self.device is None:
            states = torch.zeros(shape), torch.zeros(shape)
        else:
            states = torch.zeros(shape, device=self.device), torch.zeros(shape).to(self.device)
        last = self.recurrent(x, states)[0][:, -1]
        if self.device is not None and self.device.startswith("cuda"):
            last = last.cuda().to(torch.device(self.device)).to(self.head.weight.device)
        return self.head(self.norm(last))


def listing(model: nn.Module, loss: Any, optimizer: Any = torch.optim.SGD, example: Any = (X, Y)) -> str:
    """All that a Plan does, without the lines of the author's code."""
    plan = training_plan(model, loss, example=example, optimizer=optimizer)
    assert {tensor.device.type for tensor in plan.state} <= {"cpu"}
    lines = str(plan).splitlines() + [str(tensor) for tensor in plan.state]
    return "\n".join(line.partition("  #")[0] for line in lines)


@pytest.mark.some(12)
@pytest.mark.parametrize("name", ["cuda:1", "cuda", "mps", "xpu"])
def test_a_device_that_the_author_names_need_not_be_here(name: str) -> None:
    assert listing(Mixed(name), F.cross_entropy) == listing(Mixed("cpu"), F.cross_entropy)


@pytest.mark.some(12)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("device", DEVICES)
def test_the_plan_is_the_same_wherever_the_model_is(device: str, optimizer: str) -> None:
    here, there = Mixed(), Mixed().to(device)
    there_loss = nn.CrossEntropyLoss(weight=WEIGHT.to(device))
    kind = OPTIMIZERS[optimizer]
    expected = listing(here, nn.CrossEntropyLoss(weight=WEIGHT), kind)
    before = copy.deepcopy(there.state_dict())
    made = kind(there.parameters(), lr=0.01)
    assert listing(there, there_loss, made, (X.to(device), Y.to(device))) == expected
    for name, tensor in there.state_dict().items():  # the model stays as it is, and where it is
        assert tensor.device.type == device
        assert torch.equal(tensor, before[name])
    assert {p.device.type for p in model_parameters(there)} == {device}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("loss_of", "message"),
    [
        (lambda held, _: lambda o, t: F.cross_entropy(o, t) + held[0].square().sum(), "past the model's own"),
        (lambda _, own: lambda o, t: F.cross_entropy(o, t) + (o * own).sum(), "requires a gradient"),
        (
            lambda _, own: lambda o, t: F.cross_entropy(o, t) + own.detach().add_(1).sum(),
            "writes to a tensor",
        ),
    ],
    ids=["the model's, in a list", "one to learn", "one to write to"],
)
def test_tensors_that_may_not_be_held_are_refused_on_every_device(
    device: str, loss_of: Callable[[Any, Tensor], Any], message: str
) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 3)).to(device)
    held = [p.detach() for p in model.parameters()]
    own = torch.full((3,), 2.0, device=device).requires_grad_()
    with pytest.raises(TraceError, match=message):
        training_plan(model, loss_of(held, own), example=(X, Y))
