"""An optimizer with the author's settings for tensors of our own."""

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from fedplan.errors import TraceError
from fedplan.plan.tracing.optimizer.state import State, kept_by

OptimizerFactory = Callable[[Any], Optimizer]
"""Makes an optimizer for a list of tensors: `torch.optim.Adam`, or a `functools.partial` of it."""


class Prototype:
    """An optimizer that was made for parameters of our own, of which others are made for other tensors.

    Attributes:
        kind: its class.
        lr: the learning rate that it was made with.
        groups: the numbers of the parameters of each of its groups.
        group_of: for each parameter, by number, the place of its group.
        takes_each_alone: each parameter is taken for itself, and gradients are left as they are, as is known
            of PyTorch's own.
        initial: its state before the first step.
        like: for each parameter, by number, the first one that it treats alike.
        examples: for each kind of parameter that it changes, the first one, by number.
    """

    def __init__(self, optimizer: Optimizer | OptimizerFactory, parameters: Sequence[torch.Tensor]) -> None:
        """Reads an optimizer.

        Args:
            optimizer: a class, a `functools.partial` of one, or one that was made for these parameters.
            parameters: what may be trained.

        Raises:
            TraceError: it cannot be made, or trains none of them.
        """
        owned = [torch.zeros_like(p, device="cpu").copy_(p.detach()) for p in parameters]
        for tensor, parameter in zip(owned, parameters, strict=True):
            vars(tensor).update(vars(parameter))  # such as `_no_decay`, by which groups are made
        self._optimizer = _made(optimizer, parameters, owned)
        self.kind = type(self._optimizer)
        for (
            group
        ) in self._optimizer.param_groups:  # a scheduler, which is no part of a step, may be warming up
            group["lr"] = group.get("initial_lr", group.get("lr"))
        first = self._optimizer.param_groups[0]
        self.lr = float(self._optimizer.defaults.get("lr", first.get("lr", 0.0)))
        _check_rates(self._optimizer, self.lr)
        self.takes_each_alone = self.kind.__module__.startswith("torch.optim.")
        numbers = {id(tensor): number for number, tensor in enumerate(owned)}
        self.groups = [
            [numbers[id(p)] for p in group["params"] if id(p) in numbers]
            for group in self._optimizer.param_groups
        ]
        self.group_of = {number: place for place, group in enumerate(self.groups) for number in group}
        if not self.group_of:
            raise _holds_none(self.kind)
        self.initial = kept_by(self._optimizer, dict(enumerate(owned)))
        self.like = self._kinds(owned)
        self.examples = {n: owned[n] for n in self.like.values()}

    def _kinds(self, parameters: Sequence[torch.Tensor]) -> dict[int, int]:
        if not self.takes_each_alone:
            return {number: number for number in sorted(self.group_of)}
        first: dict[object, int] = {}
        return {
            number: first.setdefault((parameters[number].shape, parameters[number].dtype, place), number)
            for number, place in sorted(self.group_of.items())
        }

    def on(self, parameters: Mapping[int, torch.Tensor], state: State) -> Optimizer:
        """The same optimizer for some other tensors, by number, with another state; nothing is shared."""
        optimizer: Optimizer = object.__new__(type(self._optimizer))
        optimizer.__dict__.update(self._optimizer.__dict__)
        optimizer.param_groups = [
            {**copy.deepcopy(_settings(group)), "params": [parameters[n] for n in numbers if n in parameters]}
            for group, numbers in zip(self._optimizer.param_groups, self.groups, strict=True)
        ]
        optimizer.state = defaultdict(dict)
        for number in parameters.keys() & state.keys():
            optimizer.state[parameters[number]].update(state[number])
        return optimizer


def _check_rates(optimizer: Optimizer, own: float) -> None:
    """Refuses rates of groups that have no ratio to a rate that the author gave.

    Raises:
        TraceError: the optimizer's own rate is 0, or PyTorch's default, which no group has.
    """
    rates = [group["lr"] for group in optimizer.param_groups if "lr" in group]
    default = inspect.signature(type(optimizer)).parameters.get("lr")
    is_default = default is not None and default.default == own
    differ = own not in rates if own else any(rates)
    if rates and differ and (own == 0 or is_default):
        name = type(optimizer).__name__
        raise TraceError(
            f"the groups of {name} have the rates {', '.join(f'{float(rate):g}' for rate in rates)}, and its "
            f"own is {own:g}, so nothing says which of them the rate of a worker stands for: give it one, "
            f"as in {name}(groups, lr={float(max(rates)):g})"
        )


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _made(
    optimizer: Optimizer | OptimizerFactory,
    parameters: Sequence[torch.Tensor],
    owned: Sequence[torch.Tensor],
) -> Optimizer:
    """An optimizer of these settings for tensors of our own."""
    if not callable(optimizer) and not isinstance(optimizer, Optimizer):
        raise TraceError(
            f"`optimizer` is {optimizer!r}: give a class such as torch.optim.Adam, a functools.partial of "
            "one, or an optimizer that was made for the model"
        )
    instead = ""
    if isinstance(optimizer, Optimizer):
        name = type(optimizer).__name__
        make = _remake(optimizer, parameters)
        instead = f". Give what makes it: optimizer=lambda parameters: {name}(parameters, …)"
    else:
        name = str(getattr(getattr(optimizer, "func", optimizer), "__name__", "the optimizer"))
        make = optimizer
    try:
        made = make(list(owned))
    except TraceError:
        raise
    except Exception as error:
        raise TraceError(f"{name} cannot be made for this model's parameters: {error}{instead}") from error
    if not isinstance(made, Optimizer):
        raise TraceError(f"`optimizer` made a {type(made).__name__} where a torch.optim.Optimizer is needed")
    if _needs_closure(made):
        raise TraceError(
            f"{type(made).__name__} evaluates the loss as often as it likes within a step (it takes a "
            "closure); a Plan is one evaluation. Take SGD, AdamW or another optimizer that steps on "
            "gradients."
        )
    return made


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
            raise _holds_none(kind)
        made: Optimizer = kind(groups, **defaults)
        _check_carried(optimizer, made)
        return made

    return make


_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_IN_GROUPS = ("param_groups", "state", "defaults")


def _check_carried(given: Optimizer, made: Optimizer) -> None:
    """Refuses an optimizer that was made for the model and holds more than its class and groups say.

    Raises:
        TraceError: names what it holds.
    """
    usual = vars(torch.optim.SGD([torch.zeros(1)], lr=0.1)).keys() - set(_HOOKS)
    lost = []
    for name, value in vars(given).items():
        by_scheduler = getattr(value, "_wrapped_by_lr_sched", False) or name == "_opt_called"
        if name not in _IN_GROUPS and name not in usual and not by_scheduler:
            other = vars(made).get(name)
            if not (value is other or (type(value) is type(other) and _equal(value, other))):
                lost.append(name)
    if lost:
        name = type(given).__name__
        raise TraceError(
            f"the optimizer {name} holds {', '.join(map(repr, lost))}, which its groups of parameters do not "
            f"tell: give what makes it, as in functools.partial({name}, …), or a function of the parameters"
        )


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are alike; what cannot be compared is taken for another."""
    try:
        return bool(one == other)
    except (TypeError, ValueError, RuntimeError):
        return False


def _holds_none(kind: type[Optimizer]) -> TraceError:
    return TraceError(f"{kind.__name__} holds none of the model's parameters that require a gradient")
