"""How a layer of `torch.nn` is made, fed and called, and the table in which all are listed."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.plan.layers.cases import Between, Case, Choice, Menu, Score, classes, numbers, words

Call = Callable[[nn.Module, torch.Tensor], torch.Tensor]
Extents = tuple[int | range, ...]

CHANNELS = 4
SPAN = range(6, 9)
SEQUENCE = (CHANNELS, SPAN)
PICTURE = (CHANNELS, SPAN, SPAN)
VOLUME = (CHANNELS, range(5, 7), range(5, 7), range(5, 7))
SPACES: Mapping[int, Extents] = {1: SEQUENCE, 2: PICTURE, 3: VOLUME}
STEPS, FEATURES, HIDDEN = 3, 6, 4
SENTENCE = (STEPS, FEATURES)
NO_YES = (False, True)
RECURRENT = ("RNN", "GRU", "LSTM")
"""Layers whose signature does not name their options."""


def plainly(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return layer(x)


def first(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Of several results the first, such as the values of a pool that also gives their indices."""
    made = layer(x)
    return made if isinstance(made, torch.Tensor) else made[0]


def of_two(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """One number a sample, from its two vectors."""
    return layer(x[:, 0], x[:, 1]).unsqueeze(1)


def positively(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What takes roots of sums has no gradient below zero."""
    return layer(F.softplus(x))


@dataclasses.dataclass(frozen=True)
class Layer:
    """How to make, feed and call a layer.

    Attributes:
        menu: its options, all passed to `make`.
        make: makes it of its options.
        call: what a model's forward does with it.
        words: the samples are numbers of words below this.
    """

    menu: Menu
    make: Callable[..., nn.Module]
    call: Call = plainly
    words: int | None = None

    def case(self, choice: Choice) -> Case:
        """The model of three layers, the chosen one in the middle, that learns to classify."""
        samples = words(choice.shape, self.words) if self.words else numbers(choice.shape)

        def build() -> tuple[nn.Module, Score]:
            return Between(self.make(**choice.options), self.call, samples), F.cross_entropy

        return Case(str(choice), build, lambda rows: ([samples(rows)], classes(rows)))


class Table(dict[str, Layer]):
    """Layers by name. What this PyTorch does not have is left out: layers, and options of layers."""

    def add(
        self,
        name: str,
        shape: Extents,
        *,
        call: Call = plainly,
        make: Callable[..., nn.Module] | None = None,
        words: int | None = None,
        **options: Sequence[Any],
    ) -> None:
        """Lists a layer.

        Args:
            name: its name in `torch.nn`.
            shape: extents of one sample, batch left out; a range means any of them.
            call: what a model's forward does with it.
            make: makes it of its options, where that is not its class.
            words: the samples are numbers of words below this.
            options: values of each option; the first of each makes the plain layer.
        """
        kind = getattr(nn, name, None)
        if kind is not None:
            known = options if make or name in RECURRENT else _known(kind, options)
            self[name] = Layer(Menu(name, known, shape), make or kind, call, words)

    def each(self, name: str, **rest: Any) -> None:
        """Lists a layer for one, two and three dimensions; its name has `{}` for their number."""
        for dims, shape in SPACES.items():
            self.add(name.format(dims), shape, **rest)


def _known(kind: type[nn.Module], options: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
    known = inspect.signature(kind).parameters
    return {name: values for name, values in options.items() if name in known}
