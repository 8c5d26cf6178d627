"""What strategies reach on MNIST, with uneven data and with workers that mislead.

    python -m benchmarks.accuracy FOLDER [--rounds 20] [--part uneven|attacked|all] [--only NAME]

FOLDER holds the four files of MNIST. Twenty workers train a small network for one epoch a round, with the
very Plans, updates and strategies of a grid, driven in memory. Nothing here is timed.
"""

import argparse
import asyncio
import dataclasses
import gzip
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan import (
    ControlVariates,
    PlanTrainer,
    SyftModel,
    model_parameters,
    training_plan,
)
from fedplan.federation import ServerState, Setting, Strategy, Update, next_model, strategy_of, with_trained
from fedplan.federation.robust import MatrixReports
from fedplan.plan import Plan, from_torch, to_torch
from fedplan.plan.roles import changing_tensors, private_tensors, tensor_roles
from fedplan.wire import Summary, WireTensor
from fedplan.wire.config import parse_server_config

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

    def read(name: str, header: int) -> np.ndarray:
        return np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8, offset=header)

    def pair(prefix: str) -> tuple[Tensor, Tensor]:
        images = read(f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 784)
        labels = read(f"{prefix}-labels-idx1-ubyte.gz", 8)
        return torch.tensor(images / np.float32(255) - np.float32(0.13)), torch.tensor(
            labels.astype(np.int64)
        )

    x, y = pair("train")
    return Data((x[:images], y[:images]), pair("t10k"))


def network() -> nn.Module:
    """784 → 64 → 10, the same at each call."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


class Federation:
    """Twenty workers and a strategy, in memory."""

    def __init__(
        self,
        shares: Sequence[tuple[Tensor, Tensor]],
        server: dict[str, Any],
        *,
        proximal: float | None = None,
    ) -> None:
        scaffold = "scaffold" in str(server.get("strategy"))
        self.net: nn.Module = ControlVariates(network()) if scaffold else network()
        example = (torch.zeros(BATCH, 784), torch.zeros(BATCH, dtype=torch.int64))
        self.plan: Plan = training_plan(self.net, F.cross_entropy, example=example, proximal=proximal)
        tensors = model_parameters(self.net)
        layout = tuple((tuple(t.shape), str(t.dtype).removeprefix("torch.")) for t in tensors)
        changing = changing_tensors([self.plan], len(tensors))
        roles = tensor_roles([self.plan], len(tensors))
        self.places = tuple(range(len(tensors))) if changing is None else changing
        held = tuple(roles[place] for place in self.places)
        config = parse_server_config(server)
        setting = Setting(config, {"lr": LR}, layout, changing, held)
        self.strategy: Strategy = strategy_of(setting)
        self.model = [t.detach().clone() for t in tensors]
        self.private = private_tensors([self.plan])
        self.own = [[self.model[place].clone() for place in self.private] for _ in shares]
        self.shares = shares
        self.state = ServerState()

    async def train(self, worker: int, cycle: int) -> Update:
        """One epoch of one worker."""
        received = list(self.model)
        for place, tensor in zip(self.private, self.own[worker], strict=True):
            received[place] = tensor
        x, y = self.shares[worker]
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1000 * cycle + worker))
        trainer = PlanTrainer(
            plan=self.plan,
            model=SyftModel(received),
            data=x[order],
            target=y[order],
            batch_size=BATCH,
            client_config={"lr": LR},
        )
        await trainer.start()
        after = trainer.current_model.params
        self.own[worker] = [after[place] for place in self.private]
        return Update([from_torch(received[p] - after[p]) for p in self.places], trainer.summary)

    async def round(self, cycle: int, liars: Sequence[int] = ()) -> None:
        """One cycle of all workers; liars send −10 × their diff."""
        sums, rows = self.strategy.nothing(), []
        for worker in range(len(self.shares)):
            update = await self.train(worker, cycle)
            if worker in liars:
                wrong = [WireTensor(np.float32(-10) * t.array, t.dtype) for t in update.tensors]
                update = Update(wrong, Summary(samples=update.summary.samples))
            self.strategy.add(sums, update)
            if self.strategy.combine is not None:
                trained = [update.tensors[place].array.ravel() for place in self.strategy.setting.trained]
                rows.append(np.concatenate(trained))
        average = sums.average()
        if self.strategy.combine is not None:
            vector = self.strategy.combine(MatrixReports(np.stack(rows)), self.state)
            average = with_trained(average, self.strategy.setting, vector)
        before = [from_torch(self.model[place]) for place in self.places]
        changed, self.state = next_model(self.strategy, before, average, self.state)
        for place, tensor in zip(self.places, changed, strict=True):
            self.model[place] = to_torch(tensor).clone()

    def accuracy(self, data: tuple[Tensor, Tensor]) -> float:
        """Of the model, in percent."""
        with torch.no_grad():
            for own, value in zip(model_parameters(self.net), self.model, strict=True):
                own.copy_(value)
            return 100 * float((self.net(data[0]).argmax(1) == data[1]).float().mean())


def shares_of(data: Data, alpha: float, seed: int) -> list[tuple[Tensor, Tensor]]:
    """The training data over the workers: the images of each digit by a Dirichlet distribution of its own.

    So workers have unequal numbers of images too, each at least a batch.
    """
    x, y = data.train
    generator = np.random.default_rng(seed)
    while True:
        parts: list[list[int]] = [[] for _ in range(WORKERS)]
        for digit in range(10):
            places = generator.permutation(np.flatnonzero(y.numpy() == digit))
            ends = (np.cumsum(generator.dirichlet([alpha] * WORKERS)) * len(places)).astype(int)
            for part, some in zip(parts, np.split(places, ends[:-1]), strict=True):
                part.extend(some.tolist())
        if min(map(len, parts)) >= BATCH:
            return [(x[part], y[part]) for part in map(torch.tensor, parts)]


def reached(data: Data, federation: Federation, rounds: int, liars: Sequence[int] = ()) -> float:
    """The accuracy after so many rounds."""

    async def train() -> None:
        for cycle in range(1, rounds + 1):
            await federation.round(cycle, liars)

    asyncio.run(train())
    return federation.accuracy(data.test)


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
        print(
            f"| {name} | {reached(data, Federation(shares, server, proximal=proximal), rounds):.1f} % |",
            flush=True,
        )


def attacked(data: Data, rounds: int, alpha: float, seeds: Sequence[int], only: str | None) -> None:
    """Four of twenty workers send −10 × their diff."""
    print(f"\n{ATTACKERS} of {WORKERS} workers send −10 × their diff (Dirichlet {alpha}), {rounds} rounds\n")
    print("| rule | without bucketing | with buckets of 2 | without attackers |\n|---|---|---|---|")
    for name, server in ROBUST.items():
        if only not in (None, name):
            continue
        cells = []
        for bucketing, liars in ((None, True), (2, True), (None, False)):
            if bucketing and (name == "FedAvg" or name in ("Krum", "Multi-Krum", "Bulyan")):
                cells.append("–")  # ten buckets are too few for f = 4
                continue
            found = []
            for seed in seeds:
                config = server
                if bucketing:
                    strategy = server["strategy"]
                    own = {"name": strategy} if isinstance(strategy, str) else strategy
                    config = {"strategy": {**own, "bucketing": bucketing}}
                chosen = (
                    np.random.default_rng(seed).permutation(WORKERS)[:ATTACKERS].tolist() if liars else []
                )
                federation = Federation(shares_of(data, alpha, seed), {"weighting": "uniform", **config})
                with np.errstate(over="ignore"):
                    found.append(reached(data, federation, rounds, chosen))
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
