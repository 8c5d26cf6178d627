"""The model owner: hosts a model for MNIST, follows its cycles, and tests each new checkpoint.

The owner has no training data, only the test images. See README.md for how to start everything.
"""

import argparse
from pathlib import Path

import idx
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import fedplan

NAME, VERSION = "mnist", "1.0.0"


def main() -> None:
    options = parse()
    images, labels = idx.read(options.data, "t10k")

    # Any module will do. The Plan is its whole training step: forward, loss, backward, update.
    torch.manual_seed(options.seed)
    model = nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))
    plan = fedplan.training_plan(
        model,
        cross_entropy,
        example=(images[:32], labels[:32]),
        metrics={"accuracy": fedplan.accuracy},
    )

    with fedplan.ModelCentricFLClient(options.url, options.token) as grid:
        grid.host_federated_training(
            model,
            {"training_plan": plan},
            # What workers are told: one pass over their data in each cycle.
            client_config={"name": NAME, "version": VERSION, "batch_size": 32, "lr": 0.3, "max_epochs": 1},
            # A cycle closes when all workers have reported; after two minutes most of them are enough.
            server_config={
                "max_workers": options.workers,
                "max_diffs": options.workers,
                "min_diffs": max(1, options.workers * 3 // 4),
                "cycle_length": 120,
                "num_cycles": options.cycles,
            },
        )
        print(f"'{NAME}' is hosted on {options.url}, and waits for {options.workers} workers", flush=True)
        for number in range(2, options.cycles + 2):  # 1 is what was hosted
            grid.wait(NAME, VERSION, checkpoint=number)
            grid.retrieve_model(NAME, VERSION, number).load_into(model)
            with torch.no_grad():
                accuracy = fedplan.accuracy(model(images), labels)
            print(f"cycle {number - 1} of {options.cycles}: test accuracy {accuracy:.2%}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:5000", help="the grid")
    parser.add_argument("--token", help="the grid's owner token, if it has one")
    parser.add_argument("--data", type=Path, required=True, help="folder of the four MNIST files")
    parser.add_argument("--workers", type=int, default=10, help="how many workers train (default 10)")
    parser.add_argument("--cycles", type=int, default=25, help="how many cycles they train in (default 25)")
    parser.add_argument("--seed", type=int, default=0, help="decides the first model")
    return parser.parse_args()


if __name__ == "__main__":
    main()
