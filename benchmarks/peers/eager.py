"""The task in a loop of eager PyTorch, in one thread."""

import torch

from benchmarks.peers.task import CASE, Clients, Watch, told
from benchmarks.simulate import Eager


def main() -> None:
    """Runs it."""
    folder, rounds = told()
    torch.set_num_threads(1)
    clients = Clients(folder)
    eager = Eager(CASE, [clients(client) for client in range(CASE.cohort)])
    watch = Watch()
    for _ in range(rounds):
        eager()
        watch.lap()


if __name__ == "__main__":
    main()
