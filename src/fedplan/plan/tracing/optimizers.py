"""`torch.optim` optimizers inside a Plan: their state goes in and comes out as tensors.

Nothing of an update is written here. The optimizer itself runs while the step is traced, in the modes that
PyTorch offers for differentiating through it and for compiling it: there its arithmetic stays in tensors.
"""

import copy
import dataclasses
import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer

from fedplan.errors import TraceError
from fedplan.plan.tracing.tensor_numbers import numbers_in_tensors

OptimizerFactory = Callable[[Any], Optimizer]
"""Makes an optimizer for a list of tensors: `torch.optim.Adam`, or a `functools.partial` of it."""

_State = Mapping[int, Mapping[str, torch.Tensor]]
"""By the number of a parameter: the tensors that an optimizer keeps for it, by name."""


@dataclasses.dataclass(frozen=True, slots=True)
class StateTensor:
    """One tensor of an optimizer's state.

    Attributes:
        name: its name in the optimizer.
        parameters: numbers of the parameters that it is kept for; several where it is the same for all of
            them, as a count of steps is.
        shape: its shape.
        dtype: its dtype.
    """

    name: str
    parameters: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype


_STARTED = StateTensor("started", (), (), torch.float32)
"""Zero before the first step and one from then on, for an optimizer whose state does not start from zeros."""


class Update:
    """An optimizer as a function: (parameters, gradients, state, learning rate) → (parameters, state).

    Attributes:
        state: the tensors that it keeps between steps; all start as zeros.
        lr: the learning rate that it was made with.
        trained: numbers of the parameters that it changes.
    """

    def __init__(self, optimizer: Optimizer | OptimizerFactory, parameters: Sequence[torch.Tensor]) -> None:
        """Reads an optimizer.

        Args:
            optimizer: a class such as `torch.optim.SGD`, a `functools.partial` of one, or an optimizer that
                was made for these very parameters (its settings are taken, not its state).
            parameters: what may be trained.

        Raises:
            TraceError: it cannot be part of a Plan.
        """
        owned = [torch.zeros_like(p, device="cpu").copy_(p.detach()) for p in parameters]
        self._prototype, self.name = _made(optimizer, parameters, owned)
        # PyTorch's own take each parameter for itself, and leave gradients as they are
        self._is_known = type(self._prototype).__module__.startswith("torch.optim.")
        numbers = {id(tensor): number for number, tensor in enumerate(owned)}
        self._groups = [
            [numbers[id(p)] for p in group["params"] if id(p) in numbers]
            for group in self._prototype.param_groups
        ]
        self.trained = sorted(number for group in self._groups for number in group)
        if not self.trained:
            raise TraceError(f"{self.name} holds none of the model's parameters that require a gradient")
        self._initial = _kept(self._prototype, owned)
        self.lr = float(self._prototype.defaults.get("lr", self._prototype.param_groups[0].get("lr", 0.0)))
        probes = _Probes(self, owned)
        self.state = probes.state()
        self._starts_from_zeros = probes.starts_from_zeros(self.state)
        if not self._starts_from_zeros:
            self.state = (*self.state, _STARTED)

    def on(self, parameters: Mapping[int, torch.Tensor], state: _State) -> Optimizer:
        """The same optimizer for other tensors, by number, and with another state; nothing is shared."""
        optimizer: Optimizer = object.__new__(type(self._prototype))
        optimizer.__dict__.update(self._prototype.__dict__)
        optimizer.param_groups = [
            {**copy.deepcopy(_settings(group)), "params": [parameters[n] for n in numbers if n in parameters]}
            for group, numbers in zip(self._prototype.param_groups, self._groups, strict=True)
        ]
        optimizer.state = defaultdict(dict)
        for number, tensors in state.items():
            optimizer.state[parameters[number]].update(tensors)
        return optimizer

    def __call__(
        self,
        parameters: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor | None],
        state: Sequence[torch.Tensor],
        lr: torch.Tensor | float,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """One step, in operations on tensors. The parameters are changed in place, and may be returned.

        Args:
            parameters: all that were given when this was made.
            gradients: of the same shapes; None for a parameter on which the loss does not depend, which the
                optimizer then leaves as it is.
            state: one tensor for each of `self.state`.
            lr: the learning rate, a tensor of one element or a number. Groups with rates of their own keep
                the ratio to the optimizer's.
        """
        if self._starts_from_zeros:
            new, kept = self._step(parameters, gradients, self._by_parameter(state), lr)
            return new, self._in_order(kept, state)
        started, copies = state[-1], [p.detach().clone() for p in parameters]
        new, kept = self._step(parameters, gradients, self._by_parameter(state), lr)
        first, begun = self._step(copies, gradients, self._initial, lr)

        def chosen(later: torch.Tensor, at_first: torch.Tensor) -> torch.Tensor:
            return torch.where(started > 0, later, at_first)

        pairs = zip(self._in_order(kept, state), self._in_order(begun, state), strict=True)
        return (
            [chosen(*pair) for pair in zip(new, first, strict=True)],
            [*(chosen(*pair) for pair in [*pairs][:-1]), torch.ones_like(started)],
        )

    def _step(
        self,
        parameters: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor | None],
        state: _State,
        lr: torch.Tensor | float,
    ) -> tuple[list[torch.Tensor], _State]:
        copies = {n: {k: v.clone() for k, v in kept.items()} for n, kept in state.items()}
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient if gradient is None or self._is_known else gradient.clone()
        optimizer = self.on(dict(enumerate(parameters)), copies)
        for group in optimizer.param_groups:
            group.update({key: value for key, value in _TRACED_WITH.items() if key in group})
            group["lr"] = self._rate(lr, float(group.get("lr", self.lr)))
        with numbers_in_tensors(optimizer):
            optimizer.step()
        return list(parameters), _kept(optimizer, parameters)

    def _rate(self, lr: torch.Tensor | float, of_group: float) -> torch.Tensor | float:
        ratio = of_group / self.lr if self.lr else 1.0
        if not isinstance(lr, torch.Tensor):
            return lr if ratio == 1 else lr * ratio
        rate = lr.detach().reshape(())
        rate = rate if ratio == 1 else rate * ratio
        # a learning rate that asks for a gradient makes SGD multiply by it in one operation
        return rate.requires_grad_() if isinstance(self._prototype, torch.optim.SGD) else rate

    def _by_parameter(self, state: Sequence[torch.Tensor]) -> _State:
        kept: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
        for tensor, value in zip(self.state, state, strict=True):
            for number in tensor.parameters:
                kept[number][tensor.name] = value
        return kept

    def _in_order(self, kept: _State, before: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors of `self.state` after a step; those of parameters without a gradient are as before."""
        found = []
        for tensor, value in zip(self.state, before, strict=True):
            after = (kept.get(number, {}).get(tensor.name) for number in tensor.parameters)
            changed = [t for t in after if t is not None and t is not value]
            found.append(changed[0] if changed else value)
        return found

    def check_traceable(self, parameters: Sequence[torch.Tensor], lr: str | float) -> None:
        """Tries a step on tensors without values.

        Args:
            parameters: all that were given when this was made.
            lr: the learning rate's key in the client_config, or a number.

        Raises:
            TraceError: the optimizer reads a value into Python.
        """
        if self._runs_without_values(parameters, tensor_rate=isinstance(lr, str)):
            return
        if isinstance(lr, str) and self._runs_without_values(parameters, tensor_rate=False):
            raise TraceError(
                f"{self.name} reads its learning rate into Python, so the rate cannot come from the "
                "client_config. Pass lr=0.01: a number that the Plan keeps."
            )
        raise TraceError(
            f"{self.name} reads values of tensors into Python, which a Plan does not have. Take another "
            "optimizer, such as AdamW."
        )

    def _runs_without_values(self, parameters: Sequence[torch.Tensor], *, tensor_rate: bool) -> bool:
        with FakeTensorMode(allow_non_fake_inputs=True):
            fakes = [torch.empty(p.shape, dtype=p.dtype) for p in parameters]
            state = [torch.zeros(s.shape, dtype=s.dtype) for s in self.state]
            try:
                gradients = [torch.empty_like(fake) for fake in fakes]
                self(fakes, gradients, state, torch.empty(1) if tensor_rate else 0.01)
            except Exception:  # noqa: BLE001  # whatever the optimizer does there, it cannot be traced
                return False
        return True


_TRACED_WITH = {"foreach": False, "fused": False, "differentiable": True, "capturable": True}
"""Settings with which an optimizer's arithmetic stays in tensors, one parameter after the other."""


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


class _Probes:
    """The first three steps of an optimizer on made-up gradients, always the same.

    PyTorch's optimizers take each parameter for itself, so one of each shape and group stands for all.
    """

    def __init__(self, update: Update, parameters: Sequence[torch.Tensor]) -> None:
        self._update = update
        self._like = _representatives(update, parameters)
        self._parameters = {n: parameters[n] for n in sorted(set(self._like.values()))}
        chance = torch.Generator().manual_seed(0)
        self._gradients = [
            {n: torch.randn(p.shape, generator=chance).to(p.dtype) for n, p in self._parameters.items()}
            for _ in range(3)
        ]
        self._first, self._last = self._run(update._initial, 1), self._run(update._initial, 3)
        self._check_kept_in_tensors()

    def _run(self, state: _State, steps: int) -> tuple[dict[int, torch.Tensor], Optimizer]:
        owned = {n: p.clone() for n, p in self._parameters.items()}
        copies = {n: {k: v.clone() for k, v in state[n].items()} for n in owned if n in state}
        optimizer = self._update.on(owned, copies)
        for group in optimizer.param_groups:
            group.update({key: False for key in ("foreach", "fused") if key in group})
        try:
            for gradients in self._gradients[:steps]:
                for number, parameter in owned.items():
                    parameter.grad = gradients[number].clone()
                optimizer.step()
        except Exception as error:
            raise TraceError(f"a step of {self._update.name} on made-up gradients fails: {error}") from error
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
                        f"{self._update.name} keeps '{name}' as a number in Python, and changes it from step "
                        "to step; a Plan would keep the first one. Keep it as a tensor in `optimizer.state`."
                    )

    def state(self) -> tuple[StateTensor, ...]:
        """The tensors that it keeps, those once that are the same for several parameters."""
        owned, optimizer = self._last
        found: dict[object, StateTensor] = {}
        for number, like in self._like.items():
            for name, value in optimizer.state[owned[like]].items():
                if not isinstance(value, torch.Tensor):
                    continue
                alone = value.numel() > 1 or value.dim() > 0
                key: object = (name, number) if alone else (name, value.dtype, value.item())
                before = found.get(key)
                numbers = (number,) if before is None else (*before.parameters, number)
                found[key] = StateTensor(name, numbers, tuple(value.shape), value.dtype)
        return tuple(found.values())

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


def _representatives(update: Update, parameters: Sequence[torch.Tensor]) -> dict[int, int]:
    """For each parameter, by number, one that the optimizer treats alike."""
    group_of = {number: place for place, group in enumerate(update._groups) for number in group}
    first: dict[object, int] = {}
    return {
        number: first.setdefault((parameter.shape, parameter.dtype, group_of.get(number)), number)
        if update._is_known
        else number
        for number, parameter in enumerate(parameters)
    }


def _made(
    optimizer: Optimizer | OptimizerFactory,
    parameters: Sequence[torch.Tensor],
    owned: Sequence[torch.Tensor],
) -> tuple[Optimizer, str]:
    """An optimizer of these settings for tensors of our own, and its name."""
    if isinstance(optimizer, Optimizer):
        name = type(optimizer).__name__
        make = _remake(optimizer, parameters)
    else:
        name = str(getattr(getattr(optimizer, "func", optimizer), "__name__", "the optimizer"))
        make = optimizer
    try:
        made = make(list(owned))
    except TraceError:
        raise
    except Exception as error:
        raise TraceError(f"{name} cannot be made for this model's parameters: {error}") from error
    if not isinstance(made, Optimizer):
        raise TraceError(f"`optimizer` made a {type(made).__name__} where a torch.optim.Optimizer is needed")
    if _needs_closure(made):
        raise TraceError(
            f"{type(made).__name__} evaluates the loss as often as it likes within a step (it takes a "
            "closure); a Plan is one evaluation. Take SGD, AdamW or another optimizer that steps on "
            "gradients."
        )
    return made, type(made).__name__


def _needs_closure(optimizer: Optimizer) -> bool:
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _remake(optimizer: Optimizer, parameters: Sequence[torch.Tensor]) -> OptimizerFactory:
    """Makes an optimizer of the same class and settings, for the same parameters of other tensors."""
    places = {id(parameter): place for place, parameter in enumerate(parameters)}
    kind: Any = type(optimizer)
    known = inspect.signature(kind).parameters
    defaults = {name: value for name, value in optimizer.defaults.items() if name in known}

    def make(owned: list[torch.Tensor]) -> Optimizer:
        groups = [
            {**group, "params": [owned[places[id(p)]] for p in group["params"] if id(p) in places]}
            for group in optimizer.param_groups
        ]
        groups = [group for group in groups if group["params"]]
        if not groups:
            raise TraceError(f"{kind.__name__} holds none of the model's parameters that require a gradient")
        made: Optimizer = kind(groups, **defaults)
        return made

    return make


def _kept(optimizer: Optimizer, parameters: Sequence[torch.Tensor]) -> _State:
    """The tensors that an optimizer keeps, by the number of the parameter."""
    return {
        number: {k: v for k, v in optimizer.state[p].items() if isinstance(v, torch.Tensor)}
        for number, p in enumerate(parameters)
        if p in optimizer.state
    }
