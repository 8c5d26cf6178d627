"""What is fuzzed, and what must hold of each input."""

import contextlib
import dataclasses
import resource
import sys
import time
from collections.abc import Callable

from fedplan.errors import FedplanError

MOST_SECONDS = 1.0
"""Of one input, in CPU time of the whole process: the machine may be busy with other things."""

MOST_BYTES = 256 * 2**20
"""By which one input may raise the most memory that the process ever had. What a Plan may take is less."""


class FuzzFaultError(Exception):
    """An input that does what no input may do."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Something that reads what others send.

    Attributes:
        name: of it.
        run: reads an input; a refusal is a `FedplanError`.
        samples: inputs that are sound, from which others are made.
        change: makes another input of one: see `tests.fuzz.changes`.
        slow: how many times fewer inputs it gets than the others.
    """

    name: str
    run: Callable[[bytes], None]
    samples: tuple[bytes, ...]
    change: Callable[..., bytes]
    slow: int = 1


def attempt(target: Target, data: bytes) -> None:
    """Tries one input.

    Raises:
        FuzzFaultError: it took too long, or too much memory.
        Exception: what the target raised, if that is no `FedplanError`.
    """
    began, had = time.process_time(), peak_bytes()
    with contextlib.suppress(FedplanError):
        target.run(data)
    took, grown = time.process_time() - began, peak_bytes() - had
    if took > MOST_SECONDS:
        raise FuzzFaultError(f"{len(data)} bytes took {took:.2f} s of {target.name}")
    if grown > MOST_BYTES:
        raise FuzzFaultError(f"{len(data)} bytes took {grown / 2**20:.0f} MiB of {target.name}")


def peak_bytes() -> int:
    """The most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
