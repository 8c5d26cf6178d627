"""One training step through `PlanTrainer` against the same step by hand in eager PyTorch.

Both sides cut the same batches from the same tensors, train, and read loss and accuracy of each batch as
Python numbers; both use one thread. Ours hands them to a `batch_end` handler, as every user's loop does.
"""

import asyncio
import copy
import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.line import Line, Options
from benchmarks.timing import Comparison, clock_of, interleave
from fedplan import BatchEnd, Plan, PlanTrainer, SyftModel, accuracy, model_parameters, training_plan
from fedplan.plan import RepeatedPlan

RATE = 0.05


class UnrolledLSTM(nn.Module):
    """An LSTM cell over the rows of a small image."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(16, 32)
        self.out = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores of pictures (batch, rows, 16)."""
        h = c = x.new_zeros(x.shape[0], 32)
        for step in range(x.shape[1]):
            h, c = self.cell(x[:, step], (h, c))
        scores: torch.Tensor = self.out(h)
        return scores


def mlp(*sizes: int) -> nn.Module:
    """A perceptron with one hidden layer."""
    into, hidden, out = sizes
    return nn.Sequential(nn.Linear(into, hidden), nn.ReLU(), nn.Linear(hidden, out))


def cnn() -> nn.Module:
    """Two convolutions with pooling, for images of 28 × 28."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 7 * 7, 10),
    )  # fmt: skip


def with_dropout() -> nn.Module:
    """A perceptron as wide as its dropout costs something."""
    return nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(512, 10),
    )  # fmt: skip


class Encoder(nn.Module):
    """A transformer's encoder with its usual dropout, 0.1 in four places of each of two layers."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores of sequences (batch, steps, 64)."""
        scores: torch.Tensor = self.out(self.layers(x).mean(1))
        return scores


def enlarging() -> nn.Module:
    """Pictures that are made smaller and larger again, as in a U-Net."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A model and its batches."""

    what: str
    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    rows: int
    target: float
    batches: int
    epochs: int = 1
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD


CASES = (
    Case("MLP 64-32-10, batch 32", lambda: mlp(64, 32, 10), (64,), 32, 0.4, 1000),
    Case("MLP 64-32-10, batch 64", lambda: mlp(64, 32, 10), (64,), 64, 0.4, 1000),
    Case("MLP 784-392-10, batch 64", lambda: mlp(784, 392, 10), (784,), 64, 0.75, 60, 5),
    Case("CNN of 2 convolutions, batch 32", cnn, (1, 28, 28), 32, 0.95, 20, 3),
    Case("LSTM cell over 16 steps, batch 32", UnrolledLSTM, (16, 16), 32, 0.8, 20, 3),
    Case(
        "MLP 64-32-10, batch 32, Adam", lambda: mlp(64, 32, 10), (64,), 32, 0.6, 500, 1, torch.optim.Adam
    ),
    Case("MLP 784-512-512-10 with dropout, batch 64", with_dropout, (784,), 64, 1.1, 40, 3),
    Case("encoder of 2 layers with dropout, batch 16", Encoder, (32, 64), 16, 1.1, 10, 3),
    Case("CNN with bilinear enlargement, batch 16", enlarging, (3, 32, 32), 16, 1.1, 20, 3),
)  # fmt: skip


class Rivals:
    """Both sides of one case, each a function that trains."""

    def __init__(self, case: Case, options: Options) -> None:
        self.batches = 2 if options.smoke else case.batches
        self.epochs = 1 if options.smoke else case.epochs
        self.device = torch.device(options.device)
        torch.manual_seed(0)
        self.rows = case.rows
        self.x = torch.randn(case.rows * self.batches, *case.shape, device=self.device)
        self.y = torch.randint(0, 10, (len(self.x),), device=self.device)
        self.model = case.model()
        example = (self.x[: case.rows].cpu(), self.y[: case.rows].cpu())
        self.plan = training_plan(
            self.model,
            F.cross_entropy,
            example=example,
            optimizer=case.optimizer,
            metrics={"accuracy": accuracy},
        )
        self.eager = copy.deepcopy(self.model).to(self.device)
        self.optimizer = case.optimizer(self.eager.parameters(), lr=RATE)
        parameters = [p.to(self.device) for p in model_parameters(self.model)]
        self.seen: list[BatchEnd] = []
        self.trainer = self.trainer_of(self.plan, parameters)

    def trainer_of(self, plan: Plan, parameters: list[torch.Tensor]) -> PlanTrainer:
        """A trainer whose `batch_end` handler keeps what it is told."""
        return PlanTrainer(
            plan=plan,
            model=SyftModel(parameters),
            data=self.x,
            target=self.y,
            batch_size=self.rows,
            epochs=self.epochs,
            client_config={"lr": RATE},
            events={"batch_end": self.seen.append},
        )

    def by_plan(self) -> None:
        """The epochs by `PlanTrainer`."""
        self.seen.clear()
        asyncio.run(self.trainer.start())

    def cut(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of all epochs."""
        for _ in range(self.epochs):
            yield from zip(torch.split(self.x, self.rows), torch.split(self.y, self.rows), strict=True)

    def by_executor(self) -> None:
        """The same runs of the Plan, and nothing else."""
        parameters = [p.detach().to(self.device, copy=True) for p in model_parameters(self.model)]
        run = RepeatedPlan(
            self.plan,
            [None, None, torch.tensor([RATE], device=self.device), *parameters],
            varying=[0, 1],
            carried={3 + k: 2 + k for k in range(len(parameters))},
            fixed=[2],
        )
        for batch in self.cut():
            run(batch)

    def by_hand(self) -> None:
        """The epochs as one writes them in PyTorch."""
        model, optimizer = self.eager, self.optimizer
        seen = []
        for x, y in self.cut():
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                share = (output.argmax(dim=1) == y).float().mean()
            seen.append((loss.item(), share.item()))


def run(options: Options) -> list[Line]:
    """All cases, and what the trainer itself costs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*(_compared(case, options) for case in options.cases(CASES)), _overhead(CASES[0], options)]
    finally:
        torch.set_num_threads(threads)


def _compared(case: Case, options: Options) -> Line:
    rivals = Rivals(case, options)
    return _interleaved(rivals.by_plan, rivals.by_hand, rivals, options).line(
        f"step: {case.what}", case.target
    )


def _overhead(case: Case, options: Options) -> Line:
    """What `PlanTrainer` adds: batches, events, loss and metrics as numbers, turns of other coroutines."""
    rivals = Rivals(case, options)
    measured = _interleaved(rivals.by_plan, rivals.by_executor, rivals, options)
    return measured.excess("PlanTrainer beyond the executor, a batch", 30)


def _interleaved(
    ours: Callable[[], None], theirs: Callable[[], None], rivals: Rivals, options: Options
) -> Comparison:
    clock = clock_of(options.device)
    return interleave(
        ours, theirs, rounds=options.rounds(30), units=rivals.batches * rivals.epochs, clock=clock
    )
