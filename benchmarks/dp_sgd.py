"""A step of DP-SGD through `PlanTrainer` against per-sample gradients by `vmap` in eager PyTorch.

Both draw Poisson batches of 64 in the mean and noise for each parameter; by hand with PyTorch's generator,
and without padding.
"""

import asyncio
import copy
import dataclasses
import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.line import Line, Options
from benchmarks.timing import clock_of, interleave
from fedplan import DpSgd, PlanTrainer, SyftModel, model_parameters, training_plan

RATE, SAMPLES = 0.05, 2048
DP = DpSgd(max_grad_norm=1.0, noise_multiplier=1.1, expected_batch_size=64)


def mlp(*sizes: int) -> nn.Module:
    """A perceptron with one hidden layer."""
    into, hidden, out = sizes
    return nn.Sequential(nn.Linear(into, hidden), nn.ReLU(), nn.Linear(hidden, out))


def cnn() -> nn.Module:
    """Two convolutions with group norms, for images of 28 × 28."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 7 * 7, 10),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A model and the shape of its samples."""

    what: str
    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    steps: int


CASES = (
    Case("MLP 64-32-10", lambda: mlp(64, 32, 10), (64,), 64),
    Case("MLP 784-392-10", lambda: mlp(784, 392, 10), (784,), 4),
    Case("CNN of 2 convolutions with group norm", cnn, (1, 28, 28), 4),
)


class Rivals:
    """Both sides of one case, each a function that trains."""

    def __init__(self, case: Case, options: Options) -> None:
        self.steps = 1 if options.smoke else case.steps
        torch.manual_seed(0)
        self.x, self.y = torch.randn(SAMPLES, *case.shape), torch.randint(0, 10, (SAMPLES,))
        self.model = case.model()
        plan = training_plan(self.model, F.cross_entropy, example=(self.x[:8], self.y[:8]), dp=DP)
        self.eager = copy.deepcopy(self.model)
        self.trainer = PlanTrainer(
            plan=plan,
            model=SyftModel(model_parameters(self.model)),
            data=self.x,
            target=self.y,
            steps_per_epoch=min(self.steps, SAMPLES // DP.expected_batch_size),
            epochs=math.ceil(self.steps * DP.expected_batch_size / SAMPLES),
            client_config={"lr": RATE},
            seed=0,
        )

    def by_plan(self) -> None:
        """The steps by `PlanTrainer`."""
        asyncio.run(self.trainer.start())

    def by_hand(self) -> None:
        """The same number of steps as one writes them in PyTorch."""
        parameters = {name: p.detach() for name, p in self.eager.named_parameters()}

        def of_one(values: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            output = torch.func.functional_call(self.eager, values, (x.unsqueeze(0),))
            return F.cross_entropy(output, y.unsqueeze(0))

        of_each = torch.func.vmap(torch.func.grad_and_value(of_one), (None, 0, 0))
        for _ in range(self.steps):
            chosen = (torch.rand(SAMPLES) < DP.expected_batch_size / SAMPLES).nonzero().flatten()
            gradients, losses = of_each(parameters, self.x[chosen], self.y[chosen])
            norms = [g.flatten(1).norm(dim=1) for g in gradients.values()]
            share = (DP.max_grad_norm / (torch.stack(norms, 1).norm(dim=1) + 1e-6)).clamp(max=1.0)
            for name, gradient in gradients.items():
                summed = torch.einsum("n,n...->...", share, gradient)
                noise = DP.noise_multiplier * DP.max_grad_norm * torch.randn_like(summed)
                parameters[name].sub_(RATE * (summed + noise) / DP.expected_batch_size)
            losses.mean().item()


def run(options: Options) -> list[Line]:
    """All cases, with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_line(case, options) for case in options.cases(CASES)]
    finally:
        torch.set_num_threads(threads)


def _line(case: Case, options: Options) -> Line:
    rivals = Rivals(case, options)
    compared = interleave(
        rivals.by_plan, rivals.by_hand, rounds=options.rounds(9), units=rivals.steps, clock=clock_of("cpu")
    )
    return compared.line(f"DP-SGD, {case.what}, Poisson batches of 64", math.inf)
