"""Simulated rounds on an accelerator beside the same rounds on the CPU: `--device cuda`.

Clients train side by side on both, by the engine `batched`. On the CPU that is one thread, as everywhere in
a simulation; the engine `processes`, which uses every core, is a second thing to compare with. A round begins
and ends with tensors on the CPU, so what is moved to the accelerator and back counts.

Where there is no accelerator there is nothing to compare: the benchmark says so and has no lines. A smoke run
compares the CPU with itself there, to see that the benchmark runs.
"""

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fedplan
from benchmarks.clients import cnn, mlp
from benchmarks.line import Line, Options
from benchmarks.timing import Comparison
from fedplan.plan import Plan
from fedplan.simulation import Simulation

RATE = 0.05
CLASSES = 10
TURNS = 3
WARM_UP = 2
"""Rounds that are not measured: in the first one the Plan is compiled."""

TOLERANCE = 0.02
"""Of the loss: convolutions on CUDA are computed in TF32."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A cohort; each client trains on so many batches.

    Attributes:
        what: for the table.
        model: makes it.
        shape: of a sample.
        rows: samples in a batch.
        cohort: how many clients train in a round.
        steps: batches of each client.
    """

    what: str
    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    rows: int
    cohort: int
    steps: int

    def data(self) -> list[tuple[Tensor, Tensor]]:
        """The data of all clients."""
        generator, count = torch.Generator().manual_seed(0), self.steps * self.rows
        return [
            (
                torch.randn(count, *self.shape, generator=generator),
                torch.randint(CLASSES, (count,), generator=generator),
            )
            for _ in range(self.cohort)
        ]


CASES = (
    Case("digits: MLP 64-32-10, 100 clients, 10 x 8 samples", lambda: mlp(64, 32, 10), (64,), 8, 100, 10),
    Case("digits: MLP 64-32-10, 1,000 clients, 10 x 8 samples", lambda: mlp(64, 32, 10), (64,), 8, 1000, 10),
    Case("MLP 784-392-10, 100 clients, 10 x 60 samples", lambda: mlp(784, 392, 10), (784,), 60, 100, 10),
    Case("CNN 4-8 on 8 × 8, 100 clients, 10 x 8 samples", lambda: cnn(4, 8, 8), (1, 8, 8), 8, 100, 10),
    Case("CNN 16-32 on 28 × 28, 100 clients, 5 x 32", lambda: cnn(16, 32, 28), (1, 28, 28), 32, 100, 5),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """Where clients are computed, and how."""

    device: str
    engine: str = "batched"

    def __str__(self) -> str:
        return self.device if self.engine == "batched" else f"{self.device}, {self.engine}"


class Federation:
    """The rounds of a case, on whichever device."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.case, self.data, self.model = case, case.data(), case.model()
        x, y = self.data[0]
        self.plan: Plan = fedplan.training_plan(
            self.model, F.cross_entropy, example=(x[: case.rows], y[: case.rows])
        )

    def simulated(self, side: Side, rounds: int) -> Simulation:
        """So many rounds, from the same model each time."""
        return fedplan.simulate(
            self.model,
            {"training_plan": self.plan},
            self.data,
            {"name": "benchmark", "version": "1", "batch_size": self.case.rows, "lr": RATE},
            {},
            rounds=rounds,
            cohort=self.case.cohort,
            engine=side.engine,
            device=side.device,
            progress=False,
        )


def compared(case: Case, ours: Side, theirs: Side, options: Options) -> Line:
    """Rounds of two sides, which take turns of several rounds.

    Raises:
        AssertionError: the two sides do not train alike.
    """
    federation, rounds = Federation(case), WARM_UP + options.rounds(5)
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(1 if options.smoke else TURNS):
        losses = []
        for side, seconds in zip((ours, theirs), taken, strict=True):
            history = federation.simulated(side, rounds).history
            seconds.extend([row.seconds for row in history][WARM_UP:])
            losses.append(history.values("training_loss"))
        for one, other in zip(*losses, strict=True):
            if one is None or other is None or not math.isclose(one, other, rel_tol=TOLERANCE):
                raise AssertionError(f"{case.what}: the loss is {one} on {ours}, and {other} on {theirs}")
    return Comparison(*taken).line(f"a round of {case.what}: {ours} beside {theirs}", math.inf)


def run(options: Options) -> list[Line]:
    """Each case on the accelerator beside the CPU; none where there is no accelerator."""
    device = options.device
    if device == "cpu":
        print("devices: no accelerator was named (`--device cuda`), so there is nothing beside the CPU.")
        if not options.smoke:
            return []
    cases = CASES[:1] if options.smoke else CASES
    lines = [compared(case, Side(device), Side("cpu"), options) for case in cases]
    if not options.smoke:
        lines += [compared(case, Side(device), Side("cpu", "processes"), options) for case in cases]
    return lines
