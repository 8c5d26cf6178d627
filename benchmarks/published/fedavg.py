"""FedAvg on MNIST: McMahan et al. 2017 (arXiv:1602.05629), table 1, the 2NN with E = 1, B = 10, C = 0.1.

The number of rounds until 97 % of the test images are read rightly; the paper tells the best of several
learning rates, this the one that is told below.
"""

import functools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import fedplan
from benchmarks.images import Images, read_images
from benchmarks.published.report import METRICS, Asked, print_table, run_seeds

CLIENTS, COHORT, BATCH, LR, GOAL = 100, 10, 10, 0.1, 0.97
PUBLISHED = {"IID": (87, 200), "two shards a client": (664, 1500)}
"""Rounds in the paper, and after how many we give up."""


def run(asked: Asked) -> None:
    """Prints the table."""
    train, test = read_images(asked.mnist)
    print_table(("split", "rounds, published", "rounds here", "seconds a run"), _rows(asked, train, test))


def _rows(asked: Asked, train: Images, test: Images) -> Iterator[Sequence[str]]:
    for name, (published, most) in PUBLISHED.items():
        if asked.wants(name):
            rounds = asked.rounds or most
            run_one = functools.partial(_rounds_needed, asked, name, train, test, rounds)
            found, seconds = run_seeds(asked, run_one)
            yield name, str(published), found, f"{seconds:.0f}"


def _rounds_needed(asked: Asked, split: str, train: Images, test: Images, rounds: int, seed: int) -> float:
    """Rounds until the goal is reached; infinitely many where it was not."""
    if split == "IID":
        parts = fedplan.partition_iid(len(train.labels), CLIENTS, seed=seed)
    else:
        parts = fedplan.partition_shards(train.labels, CLIENTS, seed=seed)
    x, y = torch.from_numpy(train.pixels), torch.from_numpy(train.labels)
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))
    batch = (x[:BATCH], y[:BATCH])
    result = fedplan.simulate(
        net,
        {
            "training_plan": fedplan.training_plan(net, F.cross_entropy, example=batch),
            "evaluation_plan": fedplan.evaluation_plan(net, F.cross_entropy, example=batch, metrics=METRICS),
        },
        [TensorDataset(x[part], y[part]) for part in map(torch.from_numpy, parts)],
        {"name": "2nn", "version": "1", "batch_size": BATCH, "lr": LR},
        {"min_diffs": COHORT, "max_diffs": COHORT},
        rounds=rounds,
        seed=seed,
        engine=asked.engine,
        test=(test.pixels, test.labels),
    )
    reached = [cycle for cycle, share in result.history.values("test_accuracy").items() if share >= GOAL]
    return reached[0] if reached else math.inf
