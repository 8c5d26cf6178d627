"""How much memory something takes."""

import tracemalloc
from collections.abc import Callable


def peak(work: Callable[[], object]) -> int:
    """The most bytes that Python objects and NumPy arrays made by `work` take at a time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
