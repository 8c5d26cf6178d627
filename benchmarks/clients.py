"""Clients side by side: a Plan for many clients against eager PyTorch, client after client, and the floor.

The floor is the same arithmetic for all clients at once, written by hand: without autograd, with products of
stacks into tensors that exist already, and with the update inside the gradient's product.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.floor import CLASSES, Floor
from benchmarks.line import Line, Options
from benchmarks.timing import clock_of, interleave
from fedplan.plan import RepeatedPlan, model_parameters, training_plan
from fedplan.plan.clients.plan import over_clients
from fedplan.plan.clients.training import ClientsTraining

RATE = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A model, and what each client trains on.

    Attributes:
        what: for the table.
        model: makes it.
        shape: of a sample.
        rows: samples in a batch.
        clients: how many there are.
        target: for ours / eager.
        floor: for ours / floor; None where nobody wrote one.
        steps: batches of each client.
        optimizer: of all sides.
    """

    what: str
    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    rows: int
    clients: int
    target: float = math.inf
    floor: float | None = None
    steps: int = 10
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU in between."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn(first: int, second: int, side: int) -> nn.Sequential:
    """Two convolutions with pools, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(second * (side // 4) ** 2, CLASSES),
    )  # fmt: skip


class Recurrent(nn.Module):
    """An LSTM over series, and the scores of its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 32, batch_first=True)
        self.out = nn.Linear(32, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, steps, 8) → (batch, classes)."""
        scores: torch.Tensor = self.out(self.rnn(x)[0][:, -1])
        return scores


CASES = (
    Case("MLP 64-32-10, batch 8, 100 clients", lambda: mlp(64, 32, 10), (64,), 8, 100, 0.07, math.inf),
    Case("MLP 64-32-10, batch 8, 1,000 clients", lambda: mlp(64, 32, 10), (64,), 8, 1000, 0.07, math.inf),
    Case("softmax 60-10, batch 8, 100 clients", lambda: mlp(60, 10), (60,), 8, 100, 0.07, math.inf),
    Case("MLP 784-392-10, batch 60, 10 clients", lambda: mlp(784, 392, 10), (784,), 60, 10, math.inf, 1.1),
    Case("MLP 64-32-10 with Adam, batch 8, 100 clients", lambda: mlp(64, 32, 10), (64,), 8, 100,
         optimizer=torch.optim.Adam),
    Case("CNN 4-8 on 8 × 8, batch 8, 100 clients", lambda: cnn(4, 8, 8), (1, 8, 8), 8, 100, steps=3),
    Case("CNN 16-32 on 28 × 28, batch 32, 10 clients", lambda: cnn(16, 32, 28), (1, 28, 28), 32, 10, steps=2),
    Case("LSTM of 32 over 20 steps, batch 8, 50 clients", Recurrent, (20, 8), 8, 50, steps=2),
)  # fmt: skip


class Sides:
    """All sides of one case; each trains all clients from the same parameters."""

    def __init__(self, case: Case, options: Options) -> None:
        torch.manual_seed(0)
        self.case, self.device = case, torch.device(options.device)
        self.clients = min(case.clients, 4) if options.smoke else case.clients
        self.steps = min(case.steps, 2) if options.smoke else case.steps
        size = (self.steps, self.clients, case.rows)
        self.x = torch.randn(*size, *case.shape, device=self.device)
        self.y = torch.randint(0, CLASSES, size, device=self.device)
        self.model = case.model()
        self.plan = training_plan(
            self.model,
            F.cross_entropy,
            example=(self.x[0, 0].cpu(), self.y[0, 0].cpu()),
            optimizer=case.optimizer,
        )
        start = [p.detach().to(self.device, copy=True) for p in model_parameters(self.model)]
        zeros = [
            torch.zeros([e or 0 for e in item.shape or ()], device=self.device)
            for item in self.plan.inputs[3 + len(start) :]
        ]
        self.state = [*start, *zeros]
        self.model.to(self.device)
        self.parameters = list(self.model.parameters())
        first = len(self.plan.outputs) - len(self.state)
        self.carried = {3 + k: first + k for k in range(len(self.state))}
        self.together = over_clients(self.plan)
        shapes = [(tuple(t.shape), str(t.dtype)[6:]) for t in (self.x[0, 0], self.y[0, 0])]
        shapes += [((1,), "float32"), *((tuple(t.shape), str(t.dtype)[6:]) for t in self.state)]
        self.at_once = min(self.together.at_once(shapes), self.clients)

    def chunks(self) -> Iterator[slice]:
        """The clients that run at once."""
        for begin in range(0, self.clients, self.at_once):
            yield slice(begin, min(begin + self.at_once, self.clients))

    def by_plan(self) -> None:
        """The Plan for many clients."""
        for part in self.chunks():
            count = part.stop - part.start
            own = [t.expand(count, *t.shape).clone(memory_format=torch.contiguous_format) for t in self.state]
            run = ClientsTraining(
                self.together,
                [None, None, torch.tensor([RATE], device=self.device), *own],
                varying=[0, 1],
                carried=self.carried,
                fixed=[2],
            )
            for x, y in zip(self.x, self.y, strict=True):
                run([x[part], y[part]])

    def one_by_one(self) -> None:
        """The Plan, client after client."""
        for client in range(self.clients):
            own = [t.clone() for t in self.state]
            run = RepeatedPlan(
                self.plan,
                [None, None, torch.tensor([RATE], device=self.device), *own],
                varying=[0, 1],
                carried=self.carried,
                fixed=[2],
            )
            for x, y in zip(self.x[:, client], self.y[:, client], strict=True):
                run([x, y])

    def by_hand(self) -> None:
        """What one writes in PyTorch, client after client."""
        for client in range(self.clients):
            with torch.no_grad():
                for parameter, start in zip(self.parameters, self.state, strict=False):
                    parameter.copy_(start)
            optimizer = self.case.optimizer(self.parameters, lr=RATE)
            for x, y in zip(self.x[:, client], self.y[:, client], strict=True):
                optimizer.zero_grad()
                F.cross_entropy(self.model(x), y).backward()  # type: ignore[no-untyped-call]
                optimizer.step()


class ByHand:
    """The floor of a case, for so many clients at once as our side takes."""

    def __init__(self, sides: Sides) -> None:
        self.sides = sides
        self.floor = Floor(sides.state, sides.at_once, sides.case.rows, RATE)

    @torch.inference_mode()
    def __call__(self) -> None:
        """Trains all clients."""
        for part in self.sides.chunks():
            self.floor.begin(self.sides.state)
            for x, y in zip(self.sides.x, self.sides.y, strict=True):
                self.floor.step(x[part], y[part], part.stop - part.start)


def run(options: Options) -> list[Line]:
    """Each case against eager PyTorch, against the Plan client after client, and against the floor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [line for case in options.cases(CASES) for line in _lines(case, options)]
    finally:
        torch.set_num_threads(threads)


def _lines(case: Case, options: Options) -> Iterator[Line]:
    sides = Sides(case, options)
    clock = clock_of(options.device)
    units, what = sides.steps, f"{case.what} ({sides.at_once} at once)"

    def against(ours: Callable[[], None], other: Callable[[], None], words: str, target: float) -> Line:
        measured = interleave(ours, other, rounds=options.rounds(15), units=units, clock=clock)
        return measured.line(f"clients: {what}, {words}", target)

    yield against(sides.by_plan, sides.by_hand, "against eager", case.target)
    yield against(sides.by_plan, sides.one_by_one, "against the Plan one by one", math.inf)
    if case.floor is not None:
        floor = ByHand(sides)
        yield against(sides.by_plan, floor, "against the floor", case.floor)
        below = 0.8 if math.isfinite(case.floor) else math.inf
        yield against(floor, sides.by_hand, "the floor against eager", below)
