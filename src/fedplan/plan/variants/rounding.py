"""Arguments at which a Plan is tried, and what rounding does to its op list there.

Two ways to compute the same round differently. Where rounding decides (a gradient that is zero but for
rounding, a number at the corner of a ReLU) the op list differs from itself as much when its inputs are moved
by a few steps of their dtype.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Node
from fedplan.plan.ops import lookup
from fedplan.plan.plan import Plan
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec

_CHANGED = {
    PlanOutputSpec.TYPE_MODEL_PARAM: PlanInputSpec.TYPE_MODEL_PARAM,
    PlanOutputSpec.TYPE_OPTIMIZER_STATE: PlanInputSpec.TYPE_OPTIMIZER_STATE,
}
"""Outputs that are inputs of a step, changed: what kind of output, and of which input."""

_NORMALISATIONS = frozenset(
    ("aten._native_batch_norm_legit_functional.default", "aten._native_batch_norm_legit.no_stats")
)
"""Those by the batch's own statistics, if they are told to train; PyTorch's layers refuse a single number."""

_MOVES, _MOVED, _NOISE = 4, 4, 8
"""How often inputs are moved to see what rounding does, by how many steps of their dtype at most, and how
many times what is seen counts as rounding."""

FLOAT32 = torch.finfo(torch.float32).eps
"""The step of the dtype in which browsers compute."""


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """Arguments of a Plan, and what its op list makes of them.

    Attributes:
        plan: the Plan.
        arguments: all of them, in order.
        seed: with which those of random inputs were drawn.
    """

    plan: Plan
    arguments: Sequence[Tensor]
    seed: int = 0

    @functools.cached_property
    def _run(self) -> tuple[list[Tensor], float, bool]:
        """The outputs, the step of the coarsest dtype, and whether PyTorch's layers would do it."""
        steps = [FLOAT32, *(spacing(value) for value in self.arguments)]
        defined = True

        def observe(node: Node, number: int, made: Any) -> None:
            nonlocal defined
            if isinstance(made, Tensor):
                steps.append(spacing(made))
            if number == node.results[0] and _by_the_batch(node) and made.numel() == made.shape[1]:
                defined = False

        return interpret(self.plan.graph, self.arguments, observe), max(steps), defined

    @property
    def expected(self) -> list[Tensor]:
        """The outputs."""
        return self._run[0]

    @property
    def coarsest(self) -> float:
        """The step of the coarsest dtype on the way."""
        return self._run[1]

    @property
    def defined(self) -> bool:
        """Whether the op list means something here: the statistics of a single number are none."""
        return self._run[2]

    @functools.cached_property
    def noise(self) -> list[Tensor]:
        """For each element of each output, how much may differ because of rounding.

        Of what a step changes it is the change that counts: the parameter itself was moved.
        """
        made = _made(self)
        found = [torch.zeros(value.shape, dtype=torch.float64) for value in made]
        for seed in range(_MOVES):
            there = _made(self.beside(seed, lambda value: _MOVED * spacing(value)))
            for index, (here, beside) in enumerate(zip(made, there, strict=True)):
                moved = distance(here, beside).nan_to_num(nan=float("inf"))
                found[index] = torch.maximum(found[index], moved)
        return [_NOISE * moved for moved in found]

    def beside(self, seed: int, how_far: Callable[[Tensor], float]) -> "Point":
        """A point beside this one: each fraction is multiplied by a random number near one.

        Integers, random inputs and tensors of one element stay as they are.

        Args:
            seed: of the random numbers.
            how_far: for a tensor, how far from one they are at most.
        """
        random = torch.Generator().manual_seed(seed)

        def moved(value: Tensor) -> Tensor:
            if not value.is_floating_point() or value.numel() < 2:
                return value
            share = torch.rand(value.shape, generator=random, dtype=torch.float64) * 2 - 1
            return (value.to(torch.float64) * (1 + how_far(value) * share)).to(value.dtype)

        pairs = zip(self.arguments, self.plan.inputs, strict=True)
        there = [value if item.is_random else moved(value) for value, item in pairs]
        return Point(self.plan, there, self.seed)

    @functools.cached_property
    def changed(self) -> list[tuple[int, Tensor]]:
        """Places of the outputs that are inputs, changed, each with that input."""
        plan = self.plan
        places = {
            (item.spec.type, item.spec.index): place
            for place, item in enumerate(plan.inputs)
            if item.spec is not None
        }
        pairs = [
            (index, places.get((_CHANGED.get(output.spec.type, ""), output.spec.index)))
            for index, output in enumerate(plan.outputs)
            if output.spec is not None
        ]
        return [(index, self.arguments[place]) for index, place in pairs if place is not None]

    @functools.cached_property
    def largest_change(self) -> float:
        """Of any of those."""
        sizes = [
            float(distance(before, self.expected[index]).nan_to_num(0.0).max())
            for index, before in self.changed
            if before.shape == self.expected[index].shape and before.numel()
        ]
        return max(sizes, default=0.0)


def _made(point: Point) -> list[Tensor]:
    """The outputs at a point; of those that are inputs, changed, the changes."""
    made = [value.to(torch.float64) for value in point.expected]
    for index, before in point.changed:
        if before.shape == made[index].shape:
            made[index] = made[index] - before.to(torch.float64)
    return made


def _by_the_batch(node: Node) -> bool:
    """Whether an operation normalises by the batch's own statistics, of which a single number has none."""
    if node.op not in _NORMALISATIONS:
        return False
    names = [argument.name for argument in lookup(node.op).arguments]
    return bool(padded(node)[names.index("training")])


def spacing(value: Tensor) -> float:
    """From one to the next larger number of a tensor's dtype; zero for what is no fraction."""
    return float(torch.finfo(value.dtype).eps) if value.is_floating_point() else 0.0


def distance(here: Tensor, there: Tensor) -> Tensor:
    """How far two tensors are from one another, element by element; NaN where one of them is."""
    ours, theirs = here.to(torch.float64), there.to(torch.float64)
    same = (ours == theirs) | (ours.isnan() & theirs.isnan())
    return torch.where(same, 0.0, (ours - theirs).abs())
