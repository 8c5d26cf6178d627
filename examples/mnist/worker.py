"""A worker: trains the hosted model on its own part of MNIST until the model is finished.

The worker knows neither the model nor the training step: both come from the grid, as data. See README.md.
"""

import argparse
from pathlib import Path

import idx

import fedplan


def main() -> None:
    options = parse()
    images, labels = idx.read(options.data, "train")

    # Stands for data that only this worker has. The parts differ: of most digits a worker has very few.
    mine = fedplan.partition_dirichlet(labels, options.of, alpha=2.0, seed=0)[options.index]
    counts = labels[mine].bincount(minlength=10).tolist()
    print(f"worker {options.index}: {len(mine)} images; of the digits 0 … 9: {counts}", flush=True)

    result = fedplan.participate(
        options.url,
        "mnist",
        "1.0.0",
        images[mine],
        labels[mine],
        cycles=None,  # as many as there are
        wait=True,  # when the grid says "not now", ask again
        log=True,
    )
    print(f"worker {options.index}: {result.cycles} cycles, loss {result.losses[-1]:.3f} in the last one")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="ws://127.0.0.1:5000", help="the grid")
    parser.add_argument("--data", type=Path, required=True, help="folder of the four MNIST files")
    parser.add_argument("--index", type=int, required=True, help="which part of the data is ours, from 0")
    parser.add_argument("--of", type=int, default=10, help="how many workers there are (default 10)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
