"""With ``FEDPLAN_LONG=1`` (``scripts/test --long``) tests try every case, else some of each kind."""

import os
from collections.abc import Iterable
from typing import TypeVar

import pytest

T = TypeVar("T")

LONG = bool({"FEDPLAN_LONG", "FEDPLAN_LAYERS_MINUTES"} & set(os.environ))

only_in_the_long_form = pytest.mark.skipif(not LONG, reason="only with FEDPLAN_LONG=1")


def some(cases: Iterable[T], every: int = 2) -> list[T]:
    """All cases in a long run, else the first of so many in a row."""
    return list(cases)[:: 1 if LONG else every]
