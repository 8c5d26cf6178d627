"""Functions that are recorded once and used many times: each use is one operation of a recording."""

import dataclasses
import itertools
import weakref
from collections.abc import Sequence
from typing import Any

import torch

from fedplan.plan.ir.graph import Graph

_NUMBERS = itertools.count()
_KNOWN: "weakref.WeakValueDictionary[int, Subgraph]" = weakref.WeakValueDictionary()


@dataclasses.dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Subgraph:
    """A function that was recorded. Used while another is recorded, it becomes a part of that one's graph.

    Attributes:
        graph: what it does.
        results: shape and dtype of each result.
        number: its own, in a recording.
    """

    graph: Graph
    results: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    number: int = dataclasses.field(default_factory=lambda: next(_NUMBERS), init=False)

    def __post_init__(self) -> None:
        """Makes it known by its number, for as long as it lives."""
        _KNOWN[self.number] = self

    def __call__(self, *given: torch.Tensor) -> list[torch.Tensor]:
        """Stand-ins for its results: it is for functions that are recorded, and has no values to give."""
        made: list[torch.Tensor] = SUBGRAPH(list(given), self.number)
        return made

    @staticmethod
    def of(number: Any) -> "Subgraph":
        """That of a number that a recording holds."""
        return _KNOWN[number]


def _stand_ins(given: Sequence[torch.Tensor], number: int) -> list[torch.Tensor]:
    return [given[0].new_empty(shape, dtype=dtype) for shape, dtype in Subgraph.of(number).results]


_LIBRARY = torch.library.Library("fedplan", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("subgraph(Tensor[] given, int number) -> Tensor[]")  # type: ignore[no-untyped-call]
_LIBRARY.impl("subgraph", _stand_ins, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]

SUBGRAPH = torch.ops.fedplan.subgraph.default
"""What a recording holds where one is used."""
