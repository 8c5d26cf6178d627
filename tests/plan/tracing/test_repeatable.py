"""What a step keeps in Python from run to run is refused, wherever it is: a Plan would have it frozen."""

import collections
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import Plan, trace, training_plan

X, Y = torch.randn(8, 6), torch.randint(0, 3, (8,))


class Kept:
    """An object that is no module."""

    runs = 0


class Net(nn.Module):
    """A layer, and what a test keeps beside it."""

    runs = 0

    def __init__(self, forward: Callable[..., Tensor], **kept: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.step = forward
        for name, value in kept.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self, self.layer(x))


def attribute(net: Any, out: Tensor) -> Tensor:
    net.mean = 0.5 * net.mean + out.detach().mean(0)
    return out - net.mean


def element(net: Any, out: Tensor) -> Tensor:
    net.means[0] = 0.5 * net.means[0] + out.detach().mean(0)
    return out - net.means[0]


def queue(net: Any, out: Tensor) -> Tensor:
    net.counts.append(net.counts[-1] + 1)
    return out * net.counts[-1]


def other_object(net: Any, out: Tensor) -> Tensor:
    net.kept.runs += 1
    return out * net.kept.runs


def of_the_class(_: Any, out: Tensor) -> Tensor:
    Net.runs += 1
    return out * Net.runs


def clock(_: Any, out: Tensor) -> Tensor:
    return out * time.perf_counter()


def own_generator(net: Any, out: Tensor) -> Tensor:
    return out * float(net.generator.random())


def array(net: Any, out: Tensor) -> Tensor:
    found = out * torch.from_numpy(net.array)
    net.array *= 0.9
    return found


def one_of_two_layers(net: Any, out: Tensor) -> Tensor:
    layer: Callable[[Tensor], Tensor] = net.layers[next(net.turns)]
    return layer(out)


def large_array(net: Any, out: Tensor) -> Tensor:
    return out * torch.from_numpy(net.generator.random((300_000, 3), np.float32)).mean(0)


def alternating(net: Any, out: Tensor) -> Tensor:
    net.turn = not net.turn
    return out if net.turn else -out


KEEPING: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "a tensor in an attribute": (attribute, {"mean": torch.zeros(3)}),
    "a tensor in a list": (element, {"means": [torch.zeros(3)]}),
    "a count in a deque": (queue, {"counts": collections.deque([0])}),
    "a count in another object": (other_object, {"kept": Kept()}),
    "a count in the class": (of_the_class, {}),
    "a clock": (clock, {}),
    "an array": (array, {"array": np.ones(3, np.float32)}),
    "two turns": (alternating, {"turn": False}),
    "a turn of two layers of one shape": (
        one_of_two_layers,
        {"layers": nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)]), "turns": itertools.cycle([0, 1])},
    ),
    "a large array": (large_array, {"generator": np.random.default_rng(0)}),
    "a generator of its own": (own_generator, {"generator": np.random.default_rng(0)}),
}


def traced(model: nn.Module, loss: Callable[..., Tensor] = F.cross_entropy) -> Plan:
    return training_plan(model, loss, example=(X, Y))


@pytest.mark.parametrize("what", KEEPING)
def test_what_a_model_keeps_is_refused(what: str) -> None:
    forward, kept = KEEPING[what]
    with pytest.raises(TraceError, match=r"A Plan runs the same operations each time: .*register_buffer"):
        traced(Net(forward, **kept))


class Centered(nn.Module):
    """A loss that subtracts a running mean which it replaces, as DINO's does."""

    def __init__(self, as_buffer: bool) -> None:
        super().__init__()
        if as_buffer:
            self.register_buffer("center", torch.zeros(3))
        else:
            self.center = torch.zeros(3)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        loss = F.cross_entropy(output - self.center, target)
        self.center = 0.5 * self.center + 0.5 * output.detach().mean(0)
        return loss


@pytest.mark.parametrize("as_buffer", [True, False])
def test_what_a_loss_keeps_is_refused(as_buffer: bool) -> None:
    with pytest.raises(TraceError, match="A Plan runs the same operations each time"):
        traced(nn.Linear(6, 3), Centered(as_buffer))


def closures() -> Iterator[Any]:
    count, means = [0], [torch.zeros(3)]

    def counting(output: Tensor, target: Tensor) -> Tensor:
        count[0] += 1
        return F.cross_entropy(output, target) * count[0]

    def averaging(output: Tensor, target: Tensor) -> Tensor:
        means[0] = 0.9 * means[0] + 0.1 * output.detach().mean(0)
        return F.cross_entropy(output - means[0], target)

    yield pytest.param(counting, id="a number")
    yield pytest.param(averaging, id="a tensor")


@pytest.mark.parametrize("loss", list(closures()))
def test_what_a_closure_keeps_is_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(TraceError, match="a second run of the step does something else"):
        traced(nn.Linear(6, 3), loss)


def test_so_it_is_in_a_function_that_is_no_model() -> None:
    count = [0]

    def step(x: Tensor) -> Tensor:
        count[0] += 1
        return x * count[0]

    with pytest.raises(TraceError, match="a second run of the step does something else"):
        trace(step, X)


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, out: _assigning(out),
        lambda net, out: (
            setattr(net.layer.weight, "data", net.layer.weight.data * 0.9),
            net.layer(X[:, :6]),
        )[1],
    ],
    ids=["an activation", "a parameter"],
)
def test_an_assignment_to_data_is_refused(forward: Callable[..., Tensor]) -> None:
    with pytest.raises(TraceError, match=r"assigns to a tensor's `\.data`.*`tensor\.data\.copy_\(value\)`"):
        traced(Net(forward))


def _assigning(out: Tensor) -> Tensor:
    out = 1 * out
    out.data = out.data.clamp(-0.2, 0.2)
    return out


def test_a_cache_may_be_filled_before() -> None:
    @functools.cache
    def mask(size: int) -> Tensor:
        return torch.ones(size, size).tril()

    model = nn.Linear(6, 3)

    def masked(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output @ mask(3), target)

    with pytest.raises(TraceError, match="A cache that stays the same may be filled before"):
        traced(model, masked)
    mask.cache_clear()
    expected = masked(model(X), Y)
    loss, *_ = traced(model, masked)(X, Y, 0.1, *(p.detach() for p in model.parameters()))
    torch.testing.assert_close(loss, expected.detach())


def test_a_buffer_that_is_not_saved_and_counts_is_refused() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)
            self.register_buffer("runs", torch.zeros((), dtype=torch.int64), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            self.runs += 1
            out: Tensor = self.layer(x) * self.runs
            return out

    with pytest.raises(TraceError, match=r"writes to .* no input of it"):
        traced(Counting())


def test_what_is_noted_and_not_read_is_allowed() -> None:
    losses: list[Any] = []

    def noting(output: Tensor, target: Tensor) -> Tensor:
        loss = F.cross_entropy(output, target)
        losses.append(loss.item())
        losses.append(loss.detach())
        return loss

    traced(nn.Linear(6, 3), noting)


def test_a_table_of_a_buffer_that_is_not_saved_may_be_read() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)
            self.register_buffer("scale", torch.arange(1, 4), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x) * self.scale
            return out

    model = Scaled()
    loss, *_ = traced(model)(X, Y, 0.1, *(p.detach() for p in model.parameters()))
    torch.testing.assert_close(loss, F.cross_entropy(model(X), Y).detach())
