"""Logistic regression on MNIST over 1,000 clients, with which FedML and FLUTE (arXiv:2203.13789) compare.

The model is theirs: a linear layer and a sigmoid, whose outputs the cross-entropy takes as logits. Each
client has two digits, and a number of images that follows a power law, as in the code of FedProx
(arXiv:1812.06127); a tenth of each client's images are the test data. Ten clients a round, one epoch, batches
of 10, learning rate 0.03, 100 rounds: an accuracy of about 81 % is told.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import fedplan
from benchmarks.images import Images, read_images
from benchmarks.published.report import METRICS, Asked, last_accuracy, print_table, run_seeds

CLIENTS, COHORT, BATCH, LR, ROUNDS = 1000, 10, 10, 0.03, 100
PUBLISHED = "about 81"


def run(asked: Asked) -> None:
    """Prints the table."""
    train, test = read_images(asked.mnist)
    pixels = np.concatenate([train.pixels, test.pixels])
    pixels = (pixels - pixels.mean(0)) / (pixels.std(0) + np.float32(0.001))
    images = Images(pixels, np.concatenate([train.labels, test.labels]))
    print_table(("accuracy, published", "accuracy here", "seconds a run"), _rows(asked, images))


def _rows(asked: Asked, images: Images) -> Iterator[Sequence[str]]:
    found, seconds = run_seeds(asked, lambda seed: _accuracy(asked, images, seed))
    yield PUBLISHED, found, f"{seconds:.1f}"


def _accuracy(asked: Asked, images: Images, seed: int) -> float:
    """After the last round, in percent."""
    parts = two_digits_by_power_law(images.labels, np.random.default_rng(seed))
    ends = [int(0.9 * len(part)) for part in parts]
    x, y = torch.from_numpy(images.pixels), torch.from_numpy(images.labels)
    held = torch.from_numpy(np.concatenate([part[end:] for part, end in zip(parts, ends, strict=True)]))
    kept = [torch.from_numpy(part[:end]) for part, end in zip(parts, ends, strict=True)]
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(784, 10), nn.Sigmoid())
    batch = (x[:BATCH], y[:BATCH])
    result = fedplan.simulate(
        net,
        {
            "training_plan": fedplan.training_plan(net, F.cross_entropy, example=batch),
            "evaluation_plan": fedplan.evaluation_plan(net, F.cross_entropy, example=batch, metrics=METRICS),
        },
        [TensorDataset(x[part], y[part]) for part in kept],
        {"name": "lr", "version": "1", "batch_size": BATCH, "lr": LR},
        {"min_diffs": COHORT, "max_diffs": COHORT},
        rounds=asked.rounds or ROUNDS,
        seed=seed,
        engine=asked.engine,
        test=(x[held], y[held]),
        every=10,
    )
    return last_accuracy(result)


def two_digits_by_power_law(
    labels: NDArray[np.int64], random: np.random.Generator
) -> list[NDArray[np.int64]]:
    """The images of each client, in random order.

    Client k has the digits k and k + 1 (mod 10): five images of each, and a share of the others that is drawn
    from a log-normal distribution with σ = 2.
    """
    piles = [random.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    shares = random.lognormal(0, 2, (10, CLIENTS // 10, 2))
    shares /= shares.sum((1, 2), keepdims=True)
    taken = np.full(10, 5 * 2 * CLIENTS // 10)
    parts = []
    for client in range(CLIENTS):
        hand = []
        for which in range(2):
            digit = (client + which) % 10
            begin = 5 * (client // 10 + which * CLIENTS // 10)
            more = int((piles[digit].size - 5 * 2 * CLIENTS // 10) * shares[digit, client // 10, which])
            hand += [piles[digit][begin : begin + 5], piles[digit][taken[digit] : taken[digit] + more]]
            taken[digit] += more
        parts.append(random.permutation(np.concatenate(hand)))
    return parts
