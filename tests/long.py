"""Which cases the usual run leaves out of those tests that have very many.

A test with ``@pytest.mark.some(n)`` tries one in n of its cases, and `some` does the same for a loop inside a
test. Of the tests of Plans, those with four cases or more try one in four where they have no such mark. Which
ones depends on their names alone, so that every run tries the same ones; with another text in the variable
``FEDPLAN_PART`` it is other ones. ``FEDPLAN_LONG=1`` (``scripts/test --long``) tries every case; so does
``FEDPLAN_LAYERS_MINUTES``, whose minutes are shared by all layers.
"""

import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

LONG = any(os.environ.get(f"FEDPLAN_{name}", "") not in ("", "0") for name in ("LONG", "LAYERS_MINUTES"))
PART = os.environ.get("FEDPLAN_PART", "")

OF_PLANS = Path(__file__).parent / "plan"
MANY = 4
"""See above."""

only_in_the_long_form = pytest.mark.skipif(not LONG, reason="only with FEDPLAN_LONG=1")


def kept(names: Sequence[str], every: int) -> set[int]:
    """The places of one in so many of these names, rounded up; the same ones in every process."""
    # not each second one, for these may all have the same value of a parameter
    order = sorted(range(len(names)), key=lambda place: (zlib.crc32(f"{PART}{names[place]}".encode()), place))
    return set(order[: -(-len(names) // every)])


def some(cases: Iterable[T], every: int = 2) -> list[T]:
    """All cases in a long run, else one in so many; of lists of the same length those at the same places.

    Tests with parameters use ``@pytest.mark.some(every)``, so that a case can be run by its name.
    """
    listed = list(cases)
    places = range(len(listed)) if LONG else sorted(kept([str(i) for i in range(len(listed))], every))
    return [listed[place] for place in places]
