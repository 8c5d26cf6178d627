"""An optimizer is tried out: what it keeps, and how it begins."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch.optim import Optimizer

from fedplan.errors import TraceError
from fedplan.plan.tracing.optimizer.prototype import Prototype
from fedplan.plan.tracing.optimizer.state import State, StateTensor


class Probes:
    """The first three steps of an optimizer on made-up gradients, always the same.

    PyTorch's optimizers take each parameter for itself, so one of each shape and group stands for all.
    """

    def __init__(self, prototype: Prototype) -> None:
        self._prototype = prototype
        self._name = prototype.kind.__name__
        self._parameters = prototype.examples
        chance = torch.Generator().manual_seed(0)
        self._gradients = [
            {n: torch.randn(p.shape, generator=chance).to(p.dtype) for n, p in self._parameters.items()}
            for _ in range(3)
        ]
        self._first, self._last = self._run(prototype.initial, 1), self._run(prototype.initial, 3)
        self._check_kept_in_tensors()

    def _run(self, state: State, steps: int) -> tuple[dict[int, torch.Tensor], Optimizer]:
        owned = {n: p.clone() for n, p in self._parameters.items()}
        copies = {n: {k: v.clone() for k, v in kept.items()} for n, kept in state.items()}
        optimizer = self._prototype.on(owned, copies)
        for group in optimizer.param_groups:
            group.update({key: False for key in ("foreach", "fused") if key in group})
        try:
            for gradients in self._gradients[:steps]:
                for number, parameter in owned.items():
                    parameter.grad = gradients[number].clone()
                optimizer.step()
        except Exception as error:
            raise TraceError(f"a step of {self._name} on made-up gradients fails: {error}") from error
        return owned, optimizer

    def _check_kept_in_tensors(self) -> None:
        """Refuses an optimizer that keeps numbers in Python: a Plan would keep those of the first step."""
        (first, one), (last, three) = self._first, self._last
        pairs = [
            *((one.state[first[n]], three.state[last[n]]) for n in first),
            *zip(one.param_groups, three.param_groups, strict=True),
            (vars(one), vars(three)),
        ]
        for before, after in pairs:
            for name, value in before.items():
                if isinstance(value, bool | int | float) and value != after.get(name):
                    raise TraceError(
                        f"{self._name} keeps '{name}' as a number in Python, and changes it from step "
                        "to step; a Plan would keep the first one. Keep it as a tensor in `optimizer.state`."
                    )

    def state(self) -> tuple[StateTensor, ...]:
        """The tensors that it keeps, counts of steps once for all parameters of a group.

        Raises:
            TraceError: it keeps one tensor for several parameters.
        """
        owned, optimizer = self._last
        found: dict[object, StateTensor] = {}
        holders: dict[int, int] = {}
        for number, like in self._prototype.like.items():
            for name, value in optimizer.state[owned[like]].items():
                if not isinstance(value, torch.Tensor):
                    continue
                if holders.setdefault(id(value), like) != like:
                    raise TraceError(
                        f"{self._name} keeps one tensor, '{name}', for several parameters; in a Plan each "
                        "would have its own. Keep a tensor for each parameter in `optimizer.state`."
                    )
                key: object = (name, number)
                if self._is_count(value, owned[like]):
                    key = (name, value.dtype, self._prototype.group_of[number])
                before = found.get(key)
                numbers = (number,) if before is None else (*before.parameters, number)
                found[key] = StateTensor(name, numbers, tuple(value.shape), value.dtype)
        return tuple(found.values())

    def _is_count(self, value: torch.Tensor, parameter: torch.Tensor) -> bool:
        """Whether a tensor depends on the number of steps and the group's settings only.

        PyTorch's own optimizers keep numbers for nothing else; what they keep of a parameter has its
        dimensions, so next to one that is a number itself nothing shows which is which.
        """
        return self._prototype.takes_each_alone and value.dim() == 0 < parameter.dim()

    def starts_from_zeros(self, state: Sequence[StateTensor]) -> bool:
        """Whether its first step is the same from zeros as from nothing, its state included."""
        zeros: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
        for tensor in state:
            for number in tensor.parameters:
                zeros[number][tensor.name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
        (one, from_nothing), (other, from_zeros) = self._first, self._run(zeros, 1)
        pairs = [(one[n], other[n]) for n in one]
        for n in one:
            kept, also = from_nothing.state[one[n]], from_zeros.state[other[n]]
            pairs += [(kept[k], also[k]) for k in kept if isinstance(kept[k], torch.Tensor)]
        return all(torch.allclose(a, b, rtol=1e-6, atol=0, equal_nan=True) for a, b in pairs)
