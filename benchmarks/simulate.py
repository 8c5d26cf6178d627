"""Simulated rounds beside the same rounds in a loop of eager PyTorch, and how they grow with the population.

Both sides train the same clients on the same batches and average them, and take turns round by round. The
loop uses one thread, as each client of a simulation does.
"""

import contextlib
import copy
import dataclasses
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fedplan
from benchmarks.line import Line, Options
from benchmarks.rows import at_most
from benchmarks.timing import Comparison
from fedplan.simulation import SimulatedRow
from fedplan.simulation.engines.processes import cores

RATE = 0.05
INFORMATION = float("inf")
"""The target of what is told and not claimed: the share of matrix products differs between processors."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A federation.

    Attributes:
        what: it is.
        sizes: of the layers of a perceptron.
        clients: how many there are.
        cohort: how many train in a round.
        steps: batches of each.
        rows: samples in a batch.
    """

    what: str
    sizes: tuple[int, ...]
    clients: int
    cohort: int
    steps: int
    rows: int

    def model(self) -> nn.Module:
        """A new model, always the same."""
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for into, out in zip(self.sizes, self.sizes[1:], strict=False):
            layers += [nn.Linear(into, out), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def data(self) -> list[tuple[Tensor, Tensor]]:
        """The data of all clients."""
        generator = torch.Generator().manual_seed(0)
        count = self.steps * self.rows
        return [
            (
                torch.randn(count, self.sizes[0], generator=generator),
                torch.randint(self.sizes[-1], (count,), generator=generator),
            )
            for _ in range(self.clients)
        ]


CASES = (
    Case("MLP 784-392-10, 10 of 100 clients, 10 x 60 samples", (784, 392, 10), 100, 10, 10, 60),
    Case("MLP 64-32-10, 100 clients, 10 x 8 samples", (64, 32, 10), 100, 100, 10, 8),
    Case("logistic regression 60-10, 100 clients, 10 x 8 samples", (60, 10), 100, 100, 10, 8),
)


class Eager:
    """The loop that people write: each client trains a copy of the model, and the copies are averaged."""

    def __init__(self, case: Case, data: list[tuple[Tensor, Tensor]]) -> None:
        self.case, self.data = case, data
        self.model = case.model()

    def round(self) -> float:
        """Seconds of a round."""
        started = time.perf_counter()
        total = {name: torch.zeros_like(value) for name, value in self.model.state_dict().items()}
        rows = self.case.rows
        for x, y in self.data[: self.case.cohort]:
            local = copy.deepcopy(self.model)
            optimizer = torch.optim.SGD(local.parameters(), lr=RATE)
            for xs, ys in zip(torch.split(x, rows), torch.split(y, rows), strict=True):
                optimizer.zero_grad()
                loss = F.cross_entropy(local(xs), ys)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                loss.item()
            for name, value in local.state_dict().items():
                total[name] += value / self.case.cohort
        self.model.load_state_dict(total)
        return time.perf_counter() - started


def beside_eager(case: Case, engine: str, rounds: int, target: float, workers: int | None = None) -> Line:
    """Rounds of a simulation, and between them those of the loop."""
    data = case.data()
    eager, ours, theirs = Eager(case, data), list[float](), list[float]()
    plan = fedplan.training_plan(
        case.model(), F.cross_entropy, example=(data[0][0][: case.rows], data[0][1][: case.rows])
    )

    def then(row: SimulatedRow) -> None:
        ours.append(row.seconds)
        theirs.append(eager.round())

    with one_thread():
        fedplan.simulate(
            case.model(),
            {"training_plan": plan},
            data,
            {"name": "benchmark", "version": "1", "batch_size": case.rows, "lr": RATE},
            {},
            rounds=rounds + 2,
            cohort=case.cohort,
            engine=engine,
            workers=workers,
            progress=then,
        )
    which = f"{workers} processes" if engine == "processes" else engine
    return Comparison(ours[2:], theirs[2:]).line(f"a round of {case.what}: {which}", target)


def large_population(kind: str, turns: int, few: int, many: int) -> list[Line]:
    """Rounds of ten among many clients beside those of ten among few; data is made when it is needed."""
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    model = fedplan.ControlVariates(net) if kind == "scaffold" else net
    example = (torch.zeros(8, 64), torch.zeros(8, dtype=torch.int64))
    plan = fedplan.training_plan(model, F.cross_entropy, example=example)
    calls = 0

    def data(client: int) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        generator = torch.Generator().manual_seed(client)
        return torch.randn(80, 64, generator=generator), torch.randint(10, (80,), generator=generator)

    def rounds(population: int, seed: int) -> list[float]:
        strategy = {"name": "scaffold", "population": population} if kind == "scaffold" else "fedavg"
        result = fedplan.simulate(
            model,
            {"training_plan": plan},
            data,
            {"name": "benchmark", "version": "1", "batch_size": 8, "lr": RATE},
            {"strategy": strategy},
            population=population,
            rounds=4,
            cohort=10,
            seed=seed,
            engine="sequential",
            progress=False,
        )
        return [row.seconds for row in result.history][1:]  # in the first one the Plan is compiled

    ours, theirs = list[float](), list[float]()
    for turn in range(turns):
        ours += rounds(many, turn)
        theirs += rounds(few, turn)
    if calls != 2 * turns * 4 * 10:
        raise RuntimeError(f"the data of a client was made {calls} times, not once for each in a cohort")
    what = f"{kind}, 10 of {many:,} clients"
    return [
        Comparison(ours, theirs).line(f"a round of {what} beside 10 of {few:,}", 1.15),
        at_most(f"most memory of the process, {what}", 2000, most_memory(), "MB"),
    ]


def most_memory() -> float:
    """The most megabytes that this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells on Linux begins with the memory of whoever started the process
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes in one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(options: Options) -> list[Line]:
    """The table's lines."""
    rounds = options.rounds(20)
    cases = CASES[1:2] if options.smoke else CASES
    lines = [beside_eager(case, "sequential", rounds, INFORMATION) for case in cases]
    several = min(cores(), 4)
    lines.append(beside_eager(cases[0], "processes", rounds, INFORMATION, max(2, several)))
    few, many = (100, 1000) if options.smoke else (1000, 100_000)
    turns = 1 if options.smoke else 8
    for kind in ("fedavg", "scaffold"):
        lines += large_population(kind, turns, few, many)
    return lines
