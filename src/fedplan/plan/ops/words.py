"""What TorchScript says in the same way for several operations."""

from collections.abc import Callable, Mapping
from typing import Any

_END = 2**63 - 1
"""Where a slice ends that has no end."""


def slice_words(call: str) -> Callable[[Mapping[str, Any]], str]:
    """Words for an operation on a slice: torch 1.7 takes numbers only for where it begins and ends.

    Args:
        call: how the words begin, up to the dimension.
    """

    def words(given: Mapping[str, Any]) -> str:
        start = "0" if given["start"] is None else "{start}"
        end = str(_END) if given["end"] is None else "{end}"
        return f"{call}{{dim}}, {start}, {end}, {{step}})"

    return words
