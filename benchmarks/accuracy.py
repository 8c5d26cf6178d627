"""What strategies reach on MNIST, with uneven data and with workers that mislead.

    python -m benchmarks.accuracy FOLDER [--rounds 20] [--seeds 3] [--images 60000] [--only NAME]
        [--part uneven|attacked|attacked-uneven|all]

FOLDER holds the four files of MNIST. Twenty workers train a small network for one epoch a round, by
`fedplan.simulate`. Nothing here is timed.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import fedplan
from benchmarks.images import Images, read_images
from fedplan import ControlVariates, partition_dirichlet, training_plan
from fedplan.simulation import SignFlip

WORKERS, BATCH, LR = 20, 32, 0.05
ATTACKERS = 4

UNEVEN: Mapping[str, dict[str, Any]] = {
    "FedAvg, weighted by samples": {},
    "FedAvg, uniform": {"weighting": "uniform"},
    "FedAvgM": {"strategy": {"name": "fedavgm", "momentum": 0.7}},
    "FedAdam": {"strategy": {"name": "fedadam", "lr": 0.01}},
    "FedYogi": {"strategy": {"name": "fedyogi", "lr": 0.01}},
    "FedProx, μ = 0.1": {},
    "SCAFFOLD": {"strategy": {"name": "scaffold", "population": WORKERS}},
}
ROBUST: Mapping[str, dict[str, Any]] = {
    "FedAvg": {},
    "median": {"strategy": "median"},
    "trimmed mean": {"strategy": {"name": "trimmed_mean", "beta": 0.25}},
    "Krum": {"strategy": {"name": "krum", "f": ATTACKERS}},
    "Multi-Krum": {"strategy": {"name": "multi_krum", "f": ATTACKERS}},
    "Bulyan": {"strategy": {"name": "bulyan", "f": ATTACKERS}},
    "centred clipping": {"strategy": "centred_clipping"},
    "geometric median": {"strategy": "geometric_median"},
}


@dataclasses.dataclass(frozen=True)
class Data:
    """MNIST: images (n, 784) float32 about zero, labels (n,) int64."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def mnist(folder: Path, images: int) -> Data:
    """Reads the four files, and keeps so many images to train on."""
    train, test = read_images(folder)
    return Data(_about_zero(train.first(images)), _about_zero(test))


def _about_zero(images: Images) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(images.pixels - np.float32(0.13)), torch.from_numpy(images.labels)


def network() -> nn.Module:
    """784 → 64 → 10, the same at each call."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


def shares_of(data: Data, alpha: float, seed: int) -> list[tuple[Tensor, Tensor]]:
    """The training data over the workers, in unequal numbers too; each has at least a batch."""
    x, y = data.train
    parts = partition_dirichlet(y, WORKERS, alpha=alpha, balanced=False, least=BATCH, seed=seed)
    return [(x[part], y[part]) for part in map(torch.from_numpy, parts)]


def reached(
    data: Data,
    shares: Sequence[tuple[Tensor, Tensor]],
    server: Mapping[str, Any],
    rounds: int,
    *,
    proximal: float | None = None,
    liars: Sequence[int] = (),
) -> float:
    """The accuracy on the test data after so many rounds, in percent; liars send −10 × their diff."""
    net: nn.Module = network()
    if "scaffold" in str(server.get("strategy")):
        net = ControlVariates(net)
    example = (torch.zeros(BATCH, 784), torch.zeros(BATCH, dtype=torch.int64))
    plan = training_plan(net, F.cross_entropy, example=example, proximal=proximal)
    result = fedplan.simulate(
        net,
        {"training_plan": plan},
        [TensorDataset(*share) for share in shares],
        {"name": "accuracy", "version": "1", "batch_size": BATCH, "lr": LR},
        {"num_cycles": rounds, "min_diffs": WORKERS, "max_diffs": WORKERS, **server},
        engine="sequential",
        behaviour=SignFlip(scale=10, clients=frozenset(liars)) if liars else None,
        progress=False,
    )
    result.model.load_into(net)
    with torch.no_grad():
        return 100 * float((net(data.test[0]).argmax(1) == data.test[1]).float().mean())


def uneven(data: Data, rounds: int, only: str | None) -> None:
    """Dirichlet 0.1: most workers have one or two digits."""
    shares = shares_of(data, 0.1, seed=0)
    sizes = sorted(len(x) for x, _ in shares)
    print(f"\n{WORKERS} workers with {sizes[0]} to {sizes[-1]} images (Dirichlet 0.1), {rounds} rounds\n")
    print("| strategy | test accuracy |\n|---|---|")
    for name, server in UNEVEN.items():
        if only not in (None, name):
            continue
        proximal = 0.1 if "FedProx" in name else None
        print(f"| {name} | {reached(data, shares, server, rounds, proximal=proximal):.1f} % |", flush=True)


def attacked(data: Data, rounds: int, alpha: float, seeds: Sequence[int], only: str | None) -> None:
    """Four of twenty workers send −10 × their diff."""
    print(f"\n{ATTACKERS} of {WORKERS} workers send −10 × their diff (Dirichlet {alpha}), {rounds} rounds\n")
    print("| rule | without bucketing | with buckets of 2 | without attackers |\n|---|---|---|---|")
    for name, server in ROBUST.items():
        if only not in (None, name):
            continue
        cells = []
        for bucketing, lie in ((None, True), (2, True), (None, False)):
            if bucketing and (name == "FedAvg" or name in ("Krum", "Multi-Krum", "Bulyan")):
                cells.append("–")  # ten buckets are too few for f = 4
                continue
            config: dict[str, Any] = {"weighting": "uniform", **server}
            if bucketing:
                strategy = server["strategy"]
                own = {"name": strategy} if isinstance(strategy, str) else strategy
                config["strategy"] = {**own, "bucketing": bucketing}
            found = []
            for seed in seeds:
                chosen = np.random.default_rng(seed).permutation(WORKERS)[:ATTACKERS].tolist() if lie else []
                shares = shares_of(data, alpha, seed)
                found.append(reached(data, shares, config, rounds, liars=chosen))
            cells.append(
                " / ".join(f"{accuracy:.1f}" for accuracy in found) + f" (mean {statistics.mean(found):.1f})"
            )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=60_000, help="of the training data")
    parser.add_argument("--part", choices=["uneven", "attacked", "attacked-uneven", "all"], default="all")
    parser.add_argument("--only", help="one row of the tables")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = mnist(asked.folder, asked.images)
    if asked.part in ("uneven", "all"):
        uneven(data, asked.rounds, asked.only)
    if asked.part in ("attacked", "all"):
        attacked(data, asked.rounds, 1.0, range(asked.seeds), asked.only)
    if asked.part in ("attacked-uneven", "all"):
        attacked(data, asked.rounds, 0.1, range(1), asked.only)


if __name__ == "__main__":
    main()
