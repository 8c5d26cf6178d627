"""Simulated rounds beside the same rounds in a loop of eager PyTorch, and how they grow with the population.

Both sides train the same clients on the same batches and average them, and take turns round by round. The
loop uses one thread, as each client of a simulation does. What runs in this process alone is measured in time
of the processor, so other programs disturb it less.

The floor is what clients side by side cannot be far above: the arithmetic written by hand over the same data
(`benchmarks.floor`), for as many clients at once, and a plain average.
"""

import contextlib
import copy
import dataclasses
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fedplan
from benchmarks.floor import Floor
from benchmarks.line import Line, Options
from benchmarks.rows import at_most
from benchmarks.timing import Comparison
from fedplan.plan import Plan
from fedplan.plan.clients.plan import over_clients
from fedplan.simulation import Simulation
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
        target: for rounds side by side / eager.
    """

    what: str
    sizes: tuple[int, ...]
    clients: int
    cohort: int
    steps: int
    rows: int
    target: float = INFORMATION

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
    Case("MLP 64-32-10, 100 clients, 10 x 8 samples", (64, 32, 10), 100, 100, 10, 8, 0.07),
    Case("logistic regression 60-10, 100 clients, 10 x 8 samples", (60, 10), 100, 100, 10, 8, 0.07),
)


Round = Callable[[], object]
"""Computes a round."""

Data = list[tuple[Tensor, Tensor]]


class Eager:
    """The loop that people write: each client trains a copy of the model, and the copies are averaged."""

    def __init__(self, case: Case, data: Data) -> None:
        self.case, self.data = case, data
        self.model = case.model()

    def __call__(self) -> None:
        """A round."""
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


def at_once(case: Case, data: Data, state: Sequence[Tensor]) -> int:
    """How many clients the engine computes side by side."""
    x, y = data[0]
    arguments = [x[: case.rows], y[: case.rows], torch.zeros(1), *state]
    shapes = [(tuple(argument.shape), str(argument.dtype).removeprefix("torch.")) for argument in arguments]
    return over_clients(plan_of(case, data)).at_once(shapes)


class ByHand:
    """A round of the floor. It lays the clients' batches side by side in memory that is there already."""

    def __init__(self, case: Case, data: Data) -> None:
        self.case, self.data = case, data
        self.state = [parameter.detach().clone() for parameter in case.model().parameters()]
        self.at_once = min(case.cohort, at_once(case, data, self.state))
        self.floor = Floor(self.state, self.at_once, case.rows, RATE)
        x, y = data[0]
        self.x = x.new_empty(self.at_once, case.rows, *x.shape[1:])
        self.y = y.new_empty(self.at_once, case.rows)
        self.total = [torch.empty_like(tensor) for tensor in self.state]

    @torch.inference_mode()
    def __call__(self) -> None:
        """A round."""
        for total in self.total:
            total.zero_()
        for start in range(0, self.case.cohort, self.at_once):
            clients = self.data[start : min(start + self.at_once, self.case.cohort)]
            count = len(clients)
            self.floor.begin(self.state)
            for first in range(0, len(clients[0][1]), self.case.rows):
                part = slice(first, first + self.case.rows)
                torch.stack([x[part] for x, _ in clients], out=self.x[:count])
                torch.stack([y[part] for _, y in clients], out=self.y[:count])
                self.floor.step(self.x[:count], self.y[:count], count)
            for total, trained in zip(self.total, self.floor.trained(count), strict=True):
                total.add_(trained.sum(0), alpha=1 / self.case.cohort)
        for tensor, total in zip(self.state, self.total, strict=True):
            tensor.copy_(total)


def beside(
    others: Callable[[Case, Data], list[Round]],
    case: Case,
    engine: str,
    rounds: int,
    workers: int | None = None,
) -> list[list[float]]:
    """Seconds of rounds of a simulation, and of those of others, which take turns with it."""
    data = case.data()
    rest = others(case, data)
    clock = time.perf_counter if engine == "processes" else time.process_time
    taken: list[list[float]] = [[] for _ in range(len(rest) + 1)]
    plan = plan_of(case, data)
    began = clock()

    def then(_row: object) -> None:
        nonlocal began
        taken[0].append(clock() - began)
        for seconds, run_round in zip(taken[1:], rest, strict=True):
            started = clock()
            run_round()
            seconds.append(clock() - started)
        began = clock()

    with one_thread():
        simulated(case, plan, data, engine, rounds + WARM_UP, workers=workers, progress=then)
    return [seconds[WARM_UP:] for seconds in taken]


WARM_UP = 2
"""Rounds that are not measured: in the first ones the Plan is compiled."""


def plan_of(case: Case, data: Data) -> Plan:
    """The Plan of a case."""
    x, y = data[0]
    return fedplan.training_plan(case.model(), F.cross_entropy, example=(x[: case.rows], y[: case.rows]))


def simulated(case: Case, plan: Plan, data: Data, engine: str, rounds: int, **options: Any) -> Simulation:
    """A simulation of a case."""
    config = {
        "name": "benchmark",
        "version": "1",
        "batch_size": case.rows,
        "lr": RATE,
        **options.pop("config", {}),
    }
    return fedplan.simulate(
        case.model(),
        {"training_plan": plan},
        data,
        config,
        {},
        rounds=rounds,
        cohort=case.cohort,
        engine=engine,
        **options,
    )


def beside_eager(case: Case, engine: str, rounds: int, target: float, workers: int | None = None) -> Line:
    """Rounds of a simulation, and between them those of the loop."""
    ours, theirs = beside(lambda case, data: [Eager(case, data)], case, engine, rounds, workers)
    which = f"{workers} processes" if engine == "processes" else engine
    return Comparison(ours, theirs).line(f"a round of {case.what}: {which}", target)


def beside_floor(case: Case, rounds: int, target: float, floor_target: float) -> list[Line]:
    """Rounds of clients side by side, between them those of the floor, and of the loop."""
    ours, floor, eager = beside(
        lambda case, data: [ByHand(case, data), Eager(case, data)], case, "batched", rounds
    )
    what = f"a round of {case.what}: batched"
    return [
        Comparison(ours, floor).line(f"{what}, against the floor", target),
        Comparison(floor, eager).line(f"a round of {case.what}: the floor against eager", floor_target),
    ]


def scheduled(case: Case, rounds: int) -> Line:
    """Rounds with a learning rate that changes in each of them, beside rounds with a constant one."""
    data = case.data()
    plan, rate = plan_of(case, data), {"schedule": "cosine", "start": RATE, "end": RATE / 5, "cycles": 1000}
    taken = []
    for config in ({"lr": rate}, {}):
        seconds, began = list[float](), time.process_time()

        def then(_row: object, seconds: list[float] = seconds) -> None:
            nonlocal began
            seconds.append(time.process_time() - began)
            began = time.process_time()

        with one_thread():
            simulated(case, plan, data, "batched", rounds + WARM_UP, progress=then, config=config)
        taken.append(seconds[WARM_UP:])
    return Comparison(*taken).line(
        f"a round of {case.what}: batched, a scheduled learning rate against a constant one", INFORMATION
    )


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
    lines += [beside_eager(case, "batched", rounds, case.target) for case in cases]
    lines += beside_floor(cases[0], rounds, 1.1, 0.8)
    if not options.smoke:
        many_clients = dataclasses.replace(
            CASES[1], what="MLP 64-32-10, 1,000 clients, 10 x 8 samples", clients=1000, cohort=1000
        )
        lines.append(beside_eager(many_clients, "batched", options.rounds(7), many_clients.target))
        lines += beside_floor(CASES[1], rounds, INFORMATION, INFORMATION)
    lines.append(scheduled(CASES[1], rounds))
    few, many = (100, 1000) if options.smoke else (1000, 100_000)
    turns = 1 if options.smoke else 8
    for kind in ("fedavg", "scaffold"):
        lines += large_population(kind, turns, few, many)
    return lines
