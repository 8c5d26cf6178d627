"""A Plan that runs again and again on what it returned: what training is.

Here the Plan may keep house: parameters and optimizer state belong to it alone, so they are updated where
they stand; numbers that stay the same are compiled in; and only what changes from run to run is looked at.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch

from fedplan.plan.plan import Plan
from fedplan.plan.run.compiler import Executor, Repetition
from fedplan.plan.run.recent import Recent


class RepeatedPlan:
    """Runs a Plan, and puts what it returns in the place of arguments for the next run.

    The results are those of `Plan.__call__` to within rounding (about 1e-6).
    """

    def __init__(
        self,
        plan: Plan,
        arguments: Sequence[Any],
        *,
        varying: Sequence[int],
        carried: Mapping[int, int],
        fixed: Sequence[int],
    ) -> None:
        """Takes the arguments over.

        Args:
            plan: what to run.
            arguments: one an input. Those that are carried belong to this object from now on: they are
                written over, and nobody else may have their memory. Those that vary may be anything.
            varying: inputs that get another value in each run.
            carried: input → the output that takes its place.
            fixed: inputs that keep their value; those of one floating-point number are compiled in.
        """
        self._plan = plan
        self._arguments = list(arguments)
        self._varying = [(place, plan.inputs[place]) for place in varying]
        self._carried = tuple((output, place) for place, output in carried.items())
        self._fixed = tuple(fixed)
        self._runs: Recent[Executor] = Recent(plan.most_executors)

    def __call__(self, values: Sequence[Any]) -> list[torch.Tensor]:
        """One run.

        Args:
            values: one for each input that varies, in their order.

        Returns:
            The outputs, in order. Those that are carried belong to this object: copy what is to be kept.

        Raises:
            PlanInputError: the arguments do not fit the inputs.
            PlanLimitError: the run would use more than the Plan's limits.
            PlanExecutionError: an operation failed; what is carried is as it was before.
        """
        arguments = self._arguments
        key: list[Hashable] = []
        for (place, item), value in zip(self._varying, values, strict=True):
            # a tensor that looks like one that was checked before needs no other check
            plain = type(value) is torch.Tensor and value.is_contiguous() and not value.requires_grad
            arguments[place] = tensor = value if plain else item.tensor(value)
            key += (tensor.shape, tensor.dtype, tensor.device)
        seen = tuple(key)
        run = self._runs.get(seen)
        outputs = self._first(seen) if run is None else run(arguments)
        for output, place in self._carried:
            arguments[place] = outputs[output]
        return outputs

    def _first(self, key: Hashable) -> list[torch.Tensor]:
        """A run with shapes that were not seen before."""
        self._arguments[:] = tensors = self._plan.arguments(self._arguments)
        repetition = Repetition(tuple(self._numbers(tensors)), self._carried)
        run = self._plan.executor(tensors, repetition) or self._plan.first_run(tensors, repetition)[1]
        outputs = run(tensors)  # also after the first run: results must not depend on which run was the first
        if all(_alike(outputs[output], tensors[place]) for output, place in self._carried):
            self._runs.keep(key, run)
        else:  # the next run has other arguments than any before: each is checked
            self._runs.clear()
        return outputs

    def _numbers(self, tensors: Sequence[torch.Tensor]) -> Iterator[tuple[int, float]]:
        for place in self._fixed:
            if tensors[place].numel() == 1 and tensors[place].is_floating_point():
                yield place, tensors[place].item()


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
