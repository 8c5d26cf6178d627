"""What the processes of one grid hold together. Each writes its own part of a number, and reads all of them.

So no lock is needed, and what a killed process held is given back by whoever sets its part to 0. Two that add
at the same moment may exceed a limit by what one of them adds.
"""

import dataclasses
import hashlib
import secrets
from collections.abc import MutableSequence
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Self

_PLACES = 16_384
"""Addresses share so many numbers: which one is an address's, only the grid's processes know."""


class Held:
    """A number of which each process has a part.

    Args:
        parts: the part of each process.
        own: the place of this one's.
    """

    def __init__(self, parts: MutableSequence[int], own: int = 0) -> None:
        self._parts = parts
        self._own = own

    @property
    def own(self) -> int:
        """The part of this process."""
        return self._parts[self._own]

    def add(self, more: int) -> None:
        """Adds to the part of this process."""
        self._parts[self._own] += more

    def total(self) -> int:
        """All parts together."""
        return sum(self._parts)


class HeldByAddress:
    """A number for each address, of which each process has a part. Two addresses may share one.

    Args:
        parts: of each process in turn, the same count of numbers.
        own: the place of this process's.
        processes: how many there are.
        key: chooses which addresses share a number, so that nobody else can tell.
    """

    def __init__(self, parts: MutableSequence[int], own: int, processes: int, key: bytes) -> None:
        self._parts = parts
        self._own = own
        self._processes = processes
        self._key = key
        self._places = len(parts) // processes

    def add(self, address: str, more: int) -> None:
        """Adds to the part of this process."""
        self._parts[self._own * self._places + self._place(address)] += more

    def elsewhere(self, address: str) -> int:
        """The parts of all other processes."""
        place = self._place(address)
        others = (number for number in range(self._processes) if number != self._own)
        return sum(self._parts[number * self._places + place] for number in others)

    def _place(self, address: str) -> int:
        digest = hashlib.blake2b(address.encode(), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest) % self._places


@dataclasses.dataclass(frozen=True)
class Together:
    """What a process of a grid has in common with the others.

    Attributes:
        processes: how many they are.
        number: which one of them it is, from 0 on; the first one logs what is so for all.
        pending: bytes of messages that they hold.
        connections: those that are open.
        by_address: of these, those from each address.
        beats: how often each has said that it is at work.
        metrics: folder in which each keeps its counters, to be added up; None for one process alone.
    """

    processes: int
    number: int
    pending: Held
    connections: Held
    by_address: HeldByAddress
    beats: Held
    metrics: Path | None

    @classmethod
    def alone(cls) -> Self:
        """One process has nothing in common with others."""
        return cls(1, 0, Held([0]), Held([0]), HeldByAddress([0], 0, 1, b""), Held([0]), None)


class Board:
    """The memory in which the processes of a grid keep these numbers. It travels to each as it is started.

    Args:
        processes: how many there are.
        context: starts them.
        metrics: see below.

    Attributes:
        metrics: folder of their counters.
    """

    def __init__(self, processes: int, context: BaseContext, metrics: Path) -> None:
        self._processes = processes
        self.metrics = metrics
        self._pending: MutableSequence[int] = context.RawArray("q", processes)
        self._connections: MutableSequence[int] = context.RawArray("q", processes)
        self._beats: MutableSequence[int] = context.RawArray("q", processes)
        self._by_address: MutableSequence[int] = context.RawArray("i", processes * _PLACES)
        self._key = secrets.token_bytes(16)

    def of(self, number: int) -> Together:
        """As one of the processes sees it."""
        return Together(
            self._processes,
            number,
            Held(self._pending, number),
            Held(self._connections, number),
            HeldByAddress(self._by_address, number, self._processes, self._key),
            Held(self._beats, number),
            self.metrics,
        )

    def beats(self, number: int) -> int:
        """How often one of the processes has said that it is at work."""
        return self._beats[number]

    def clear(self, number: int) -> None:
        """A process has ended, and holds nothing any more."""
        self._pending[number] = self._connections[number] = 0
        first = number * _PLACES
        self._by_address[first : first + _PLACES] = [0] * _PLACES
