"""Eager PyTorch with the random numbers of a Plan: what a Plan with dropout or noise is held against."""

from collections.abc import Sequence
from typing import Any

import torch

from fedplan.plan.tracing.chance import RULES, draws
from fedplan.plan.tracing.draws import Draws, _size


class DrawnMoreOftenError(AssertionError):
    """Eager PyTorch draws where the Plan does not."""


class SameNumbers(Draws):
    """Answers PyTorch's random operators, one after the other, from the numbers of a Plan's random inputs.

    ::

        with SameNumbers.of(plan.draw(stream, rows)) as eager: …
    """

    def __init__(self, numbers: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self._numbers = list(numbers)
        self._places: dict[int, int] = {}
        self.used = 0

    def __enter__(self) -> "SameNumbers":
        self._fork = torch.random.fork_rng(devices=[])
        self._fork.__enter__()
        self._renew()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._fork.__exit__(*error)

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if op not in RULES or not draws(op, args):  # attention's kernels are tagged, and draw nothing
            return op(*args, **(kwargs or {}))
        seed = torch.default_generator.initial_seed()
        self._renew()
        place = self._places.setdefault(seed, len(self._places))
        self.used = len(self._places)
        if place >= len(self._numbers):
            raise DrawnMoreOftenError(f"{op} draws, and the Plan has {len(self._numbers)} random inputs")
        drawn = _in_shape(self._numbers[place], tuple(_size(op, args)))
        return RULES[op].answer(drawn, *args, **(kwargs or {}))


def _in_shape(numbers: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """The numbers of a random input as the operator's result, whose rows may be in another dimension."""
    forms = [numbers] if numbers.dim() < 2 else [numbers, numbers.flatten(0, 1)]
    for form in forms:
        for dim in range(max(form.dim(), 1)):
            moved = form.movedim(0, dim) if form.dim() else form
            if tuple(moved.shape) == size:
                return moved
    raise AssertionError(f"{tuple(numbers.shape)} is not {size}")
