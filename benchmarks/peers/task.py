"""The task that all simulators are given: FedAvg on an MLP of MNIST's size, ten of a hundred clients a round.

Each simulator runs in a process of its own (`python -m benchmarks.peers.flower FOLDER ROUNDS`) and prints the
seconds of each round, one a line.
"""

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.simulate import CASES, RATE

CASE = CASES[0]
"""784-392-10; clients of 600 samples, in batches of 60."""


def write_data(folder: Path) -> None:
    """Writes the data of all clients: ``x.npy`` (clients, samples, 784) and ``y.npy`` (clients, samples)."""
    pairs = CASE.data()
    np.save(folder / "x.npy", np.stack([x.numpy() for x, _ in pairs]))
    np.save(folder / "y.npy", np.stack([y.numpy() for _, y in pairs]))


@dataclasses.dataclass(frozen=True)
class Clients:
    """The data of all clients, mapped and not copied."""

    folder: Path

    def __call__(self, client: int) -> tuple[Tensor, Tensor]:
        """x and y of one client."""
        x = np.load(self.folder / "x.npy", mmap_mode="c")[client]
        y = np.load(self.folder / "y.npy", mmap_mode="c")[client]
        return torch.from_numpy(x), torch.from_numpy(y)


class Watch:
    """Prints how long each round took."""

    def __init__(self) -> None:
        """The first round begins now."""
        self._since = time.perf_counter()

    def lap(self) -> None:
        """A round has ended."""
        now = time.perf_counter()
        print(f"seconds {now - self._since:.6f}", flush=True)
        self._since = now


def told() -> tuple[Path, int]:
    """The folder with the data and the number of rounds, from the command line."""
    return Path(sys.argv[1]), int(sys.argv[2])


__all__ = ["CASE", "RATE", "Clients", "Watch", "told", "write_data"]
