"""Diffs that hold a part of the model: the tensors that a training changes. The others differ by zero."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from fedplan.federation.tensors.layout import Tensors
from fedplan.federation.tensors.reach import reach_of
from fedplan.wire import DTYPES, WireTensor
from fedplan.wire.state import Places

_T = TypeVar("_T")


def part_of(whole: Sequence[_T], places: Places) -> tuple[_T, ...]:
    """What stands at some places of a model's tensors, or of anything else that has one entry for each."""
    return tuple(whole) if places is None else tuple(whole[place] for place in places)


def others(tensors: int, places: Sequence[int]) -> tuple[int, ...]:
    """The places of a model with so many tensors that are not among these."""
    return tuple(sorted(set(range(tensors)).difference(places)))


def changed_outside(diff: Tensors, places: Sequence[int]) -> int | None:
    """The first tensor of a whole diff, other than those at the places, that is not zero throughout.

    Args:
        diff: its values are finite.
        places: of the tensors that may change.
    """
    frozen = others(len(diff), places)
    reaches = reach_of(part_of(diff, frozen))
    return next((place for place, reach in zip(frozen, reaches, strict=True) if reach), None)


def zeros(shape: tuple[int, ...], dtype: str) -> WireTensor:
    """A tensor of zeros."""
    return WireTensor(np.zeros(shape, DTYPES[dtype].storage), dtype)
