"""NIID-Bench (Li et al. 2022, arXiv:2102.02079), as the baseline of Flower has it: two sets of images.

Ten clients, whose labels differ by a Dirichlet distribution of 0.5, all in each of 50 rounds; ten epochs of
batches of 64, learning rate 0.01 with a momentum of 0.9, weight decay 1e-5; a CNN of two convolutions.
SCAFFOLD is trained with plain SGD and a learning rate of 0.1, which moves a model as far: its control
variates are means of gradients, and with momentum a trained model does not show these.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import fedplan
from benchmarks.images import read_images
from benchmarks.published.report import METRICS, Asked, last_accuracy, print_table, run_seeds

CLIENTS, BATCH, EPOCHS, ROUNDS, MOMENTUM = 10, 64, 10, 50, 0.9
SERVERS: Mapping[str, dict[str, Any]] = {
    "FedAvg": {},
    "SCAFFOLD": {"strategy": {"name": "scaffold", "population": CLIENTS}},
    "FedProx, μ = 0.01": {},
    "FedNova": {"strategy": {"name": "fednova", "momentum": MOMENTUM}},
}
PUBLISHED = {
    "MNIST": ("98.89 ± 0.07", "99.07 ± 0.06", "99.02 ± 0.02", "98.03 ± 0.06"),
    "Fashion-MNIST": ("88.09", "88.44", "88.15", "88.22"),
}


def run(asked: Asked) -> None:
    """Prints the table."""
    columns = ("data", "strategy", "accuracy, published", "accuracy here", "seconds a run")
    print_table(columns, _rows(asked))


def _rows(asked: Asked) -> Iterator[Sequence[str]]:
    for data, folder in (("MNIST", asked.data), ("Fashion-MNIST", asked.fashion)):
        if folder is None:
            continue
        for name, published in zip(SERVERS, PUBLISHED[data], strict=True):
            if asked.wants(name):
                run_one = functools.partial(_accuracy, asked, folder, name)
                found, seconds = run_seeds(asked, run_one)
                yield data, name, published, found, f"{seconds:.0f}"


def network() -> nn.Module:
    """Two convolutions and three layers: 44,426 parameters, for images of (1, 28, 28)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def _accuracy(asked: Asked, folder: Path, name: str, seed: int) -> float:
    """After the last round, in percent."""
    train, test = read_images(folder)
    x = torch.from_numpy(train.pixels).reshape(-1, 1, 28, 28)
    y = torch.from_numpy(train.labels)
    parts = fedplan.partition_dirichlet(y, CLIENTS, alpha=0.5, balanced=False, least=10, seed=seed)
    torch.manual_seed(seed)
    net, lr, momentum = network(), 0.01, MOMENTUM
    if name == "SCAFFOLD":
        net, lr, momentum = fedplan.ControlVariates(net), lr / (1 - momentum), 0.0
    batch = (x[:BATCH], y[:BATCH])
    optimizer = functools.partial(torch.optim.SGD, lr=lr, momentum=momentum, weight_decay=1e-5)
    proximal = 0.01 if "FedProx" in name else None
    training = fedplan.training_plan(
        net, F.cross_entropy, example=batch, optimizer=optimizer, proximal=proximal
    )
    result = fedplan.simulate(
        net,
        {
            "training_plan": training,
            "evaluation_plan": fedplan.evaluation_plan(net, F.cross_entropy, example=batch, metrics=METRICS),
        },
        [TensorDataset(x[part], y[part]) for part in map(torch.from_numpy, parts)],
        {"name": "niid", "version": "1", "batch_size": BATCH, "max_epochs": EPOCHS, "lr": lr},
        {"min_diffs": CLIENTS, "max_diffs": CLIENTS, **SERVERS[name]},
        rounds=asked.rounds or ROUNDS,
        seed=seed,
        engine=asked.engine,
        test=(test.pixels.reshape(-1, 1, 28, 28), test.labels),
        every=10,
    )
    return last_accuracy(result)
