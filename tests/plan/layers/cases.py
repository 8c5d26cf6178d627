"""A case: a small model, its loss and its batches, as random options of one layer or loss make them."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

Batch = tuple[list[torch.Tensor], torch.Tensor]
"""(the model's arguments, the target)"""
Score = Callable[[Any, torch.Tensor], torch.Tensor]
"""(model output, target) → the loss."""
Options = Mapping[str, Any]
Optimizer = Callable[[Any], torch.optim.Optimizer]

CLASSES = 3
ROWS = (5, 4, 7)
"""Batch sizes: of the example, and of the two that the Plan is run with."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One training step.

    Attributes:
        name: what is tried, for messages.
        build: makes the model and its loss; the same ones for the same seed.
        batch: makes a batch of so many rows.
        rows: batch sizes: of the example, then of the runs.
        optimizer: makes the optimizer that trains the model.
        lr: the client_config key of the learning rate, or a number that the Plan keeps.
        seed: of all random numbers.
    """

    name: str
    build: Callable[[], tuple[nn.Module, Score]]
    batch: Callable[[int], Batch]
    rows: tuple[int, ...] = ROWS
    optimizer: Optimizer = torch.optim.SGD
    lr: str | float = "lr"
    seed: int = 0

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class Choice:
    """One layer or loss with its options chosen.

    Attributes:
        of: name of the layer or loss.
        options: its options.
        shape: extents of one sample, (…,).
    """

    of: str
    options: Options
    shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        chosen = ", ".join(f"{name}={_said(value)}" for name, value in self.options.items())
        return f"{self.of}({chosen})" + (f" on {self.shape}" if self.shape else "")


def _said(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "tensor"
    return value.__name__ if callable(value) else repr(value)


@dataclasses.dataclass(frozen=True)
class Menu:
    """What may be chosen of a layer or loss. The first value of every option makes the plain one."""

    of: str
    options: Mapping[str, Sequence[Any]]
    shape: tuple[int | range, ...] = ()

    def plain(self) -> Choice:
        shape = tuple(extent if isinstance(extent, int) else extent[0] for extent in self.shape)
        return Choice(self.of, {name: values[0] for name, values in self.options.items()}, shape)

    def one_by_one(self) -> Iterator[tuple[str, Any, Choice]]:
        """(option, value, choice): the plain one, but for one option."""
        plain = self.plain()
        for name, values in self.options.items():
            for value in values[1:]:
                yield name, value, dataclasses.replace(plain, options={**plain.options, name: value})

    def choices(self) -> st.SearchStrategy[Choice]:
        options = st.fixed_dictionaries({n: st.sampled_from(v) for n, v in self.options.items()})
        extents = [st.just(e) if isinstance(e, int) else st.sampled_from(e) for e in self.shape]
        return st.builds(Choice, st.just(self.of), options, st.tuples(*extents))


def numbers(shape: Sequence[int]) -> Callable[[int], torch.Tensor]:
    """Makes samples of this shape, float32, normal."""
    return lambda rows: torch.randn(rows, *shape)


def words(shape: Sequence[int], below: int) -> Callable[[int], torch.Tensor]:
    """Makes samples of this shape, int64, below a bound."""
    return lambda rows: torch.randint(0, below, (rows, *shape))


def classes(rows: int) -> torch.Tensor:
    """Class numbers, (rows,), int64."""
    return torch.randint(0, CLASSES, (rows,))


class Between(nn.Module):
    """A layer between two that learn, so that its gradient must pass on what comes from behind it.

    Args:
        layer: the layer.
        call: how it is called: (layer, x) → a tensor of the shape (batch, …).
        samples: makes samples.
    """

    def __init__(
        self,
        layer: nn.Module,
        call: Callable[[nn.Module, torch.Tensor], torch.Tensor],
        samples: Callable[[int], torch.Tensor],
    ) -> None:
        super().__init__()
        x = samples(2)
        self.before = nn.Linear(x.shape[-1], x.shape[-1]) if x.is_floating_point() else nn.Identity()
        self.layer = layer
        self.call = call
        state = torch.get_rng_state()
        with torch.no_grad():
            features = self.inner(x).shape[1]
        torch.set_rng_state(state)
        self.after = nn.Linear(features, CLASSES)

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        """What comes from the layer, (batch, features)."""
        return self.call(self.layer, self.before(x)).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.inner(x))


def product(options: Mapping[str, Sequence[Any]]) -> Iterator[Options]:
    """Every combination of options."""
    for values in itertools.product(*options.values()):
        yield dict(zip(options, values, strict=True))
