"""`torch.optim` optimizers inside a Plan: their state goes in and comes out as tensors.

Nothing of an update is written here. The optimizer itself runs while the step is traced, in the modes that
PyTorch offers for differentiating through it and for compiling it: there its arithmetic stays in tensors.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer

from fedplan.errors import TraceError
from fedplan.plan.tracing.lower import lower
from fedplan.plan.tracing.optimizer.probes import Probes
from fedplan.plan.tracing.optimizer.prototype import OptimizerFactory, Prototype
from fedplan.plan.tracing.optimizer.state import STARTED, State, StateTensor, kept_by
from fedplan.plan.tracing.optimizer.tensor_numbers import numbers_in_tensors
from fedplan.plan.tracing.subgraphs import Subgraph
from fedplan.plan.tracing.symbolic import record


class Update:
    """An optimizer as a function: (parameters, gradients, state, learning rate) → (parameters, state).

    Attributes:
        state: the tensors that it keeps between steps; all start as zeros.
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
        self._prototype = Prototype(optimizer, parameters)
        self.trained = sorted(self._prototype.like)
        probes = Probes(self._prototype)
        self.state = probes.state()
        self._starts_from_zeros = probes.starts_from_zeros(self.state)
        if not self._starts_from_zeros:
            self.state = (*self.state, STARTED)
        self._recorded: Mapping[int, Subgraph] = {}

    def check_plain_sgd(self) -> None:
        """Checks that a step is nothing but w − lr × gradient, as SCAFFOLD's control variates suppose.

        Raises:
            TraceError: it is more.
        """
        if self._prototype.kind is not torch.optim.SGD or self.state or len(self._prototype.groups) > 1:
            raise TraceError(
                "SCAFFOLD's control variates are means of gradients, which show in the trained model only "
                "with plain SGD: torch.optim.SGD without momentum, with one group of parameters"
            )

    @property
    def lr(self) -> float:
        """The learning rate that it was made with."""
        return self._prototype.lr

    @property
    def goes_by_size(self) -> bool:
        """Whether a gradient that is nothing but rounding changes next to nothing, as with plain SGD."""
        return self._prototype.kind is torch.optim.SGD

    def __call__(
        self,
        parameters: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor | None],
        state: Sequence[torch.Tensor],
        lr: torch.Tensor | float,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """One step, in operations on tensors. The parameters may be changed in place, and may be returned.

        Args:
            parameters: all that were given when this was made.
            gradients: of the same shapes; None for a parameter on which the loss does not depend, which the
                optimizer then leaves as it is.
            state: one tensor for each of `self.state`.
            lr: the learning rate, a tensor of one element or a number. Groups with rates of their own keep
                the ratio to the optimizer's.
        """
        new, before = dict(enumerate(parameters)), dict(zip(self.state, state, strict=True))
        others = {n: p for n, p in new.items() if n not in self._recorded}
        kept = self._stepped(others, dict(enumerate(gradients)), before, lr)
        new.update(others)
        rate = [lr] if isinstance(lr, torch.Tensor) else []
        for number, recorded in self._recorded.items():
            gradient = gradients[number]
            if gradient is not None:
                own = self._own_state(number)
                given = new[number], gradient, *rate, *(before[tensor] for tensor in own)
                new[number], *after = recorded(*given)
                kept.update(zip(own, after, strict=True))
        return list(new.values()), list(kept.values())

    def first(
        self, parameters: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None], lr: float
    ) -> None:
        """The first step of the optimizer itself, in place; see `__call__`."""
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        begun = {n: {k: v.clone() for k, v in kept.items()} for n, kept in self._prototype.initial.items()}
        optimizer = self._prototype.on(dict(enumerate(parameters)), begun)
        for group in optimizer.param_groups:
            own = float(group.get("lr", self.lr))
            group["lr"] = lr * own / self.lr if self.lr else lr
        optimizer.step()

    def _own_state(self, number: int) -> list[StateTensor]:
        """The tensors that are kept for a parameter, in an order that is the same for all that are alike."""
        own = (tensor for tensor in self.state if number in tensor.parameters or tensor is STARTED)
        return sorted(own, key=lambda tensor: tensor.name)

    def _stepped(
        self,
        parameters: dict[int, torch.Tensor],
        gradients: Mapping[int, torch.Tensor | None],
        state: Mapping[StateTensor, torch.Tensor],
        lr: torch.Tensor | float,
    ) -> dict[StateTensor, torch.Tensor]:
        """One step of some parameters, by number, which become the new ones; returns the state after it."""
        begun = {n: kept for n, kept in self._prototype.initial.items() if n in parameters}
        copies = {n: p.detach().clone() for n, p in parameters.items()}
        kept = _in_order(self._step(parameters, gradients, _by_parameter(state, parameters), lr), state)
        if self._starts_from_zeros:
            return kept
        started = state[STARTED]
        at_first = _in_order(self._step(copies, gradients, begun, lr), state)
        moved = {n for n in parameters if gradients[n] is not None}
        for number in moved:
            parameters[number] = torch.where(started > 0, parameters[number], copies[number])
        for tensor in state:
            if not moved.isdisjoint(tensor.parameters):
                kept[tensor] = torch.where(started > 0, kept[tensor], at_first[tensor])
        return {**kept, STARTED: torch.ones_like(started)}

    def _step(
        self,
        parameters: Mapping[int, torch.Tensor],
        gradients: Mapping[int, torch.Tensor | None],
        state: State,
        lr: torch.Tensor | float,
    ) -> State:
        """One step of some parameters, by number, in place; the state after it."""
        copies = {n: {k: v.clone() for k, v in kept.items()} for n, kept in state.items()}
        for number, parameter in parameters.items():
            gradient = gradients[number]
            parameter.grad = (
                gradient if gradient is None or self._prototype.takes_each_alone else gradient.clone()
            )
        optimizer = self._prototype.on(parameters, copies)
        for group in optimizer.param_groups:
            group.update({key: value for key, value in _TRACED_WITH.items() if key in group})
            group["lr"] = self._rate(lr, float(group.get("lr", self.lr)))
        with numbers_in_tensors(optimizer):
            optimizer.step()
        moved = {n: p for n, p in parameters.items() if gradients[n] is not None}
        return kept_by(optimizer, moved)  # the others' counts of steps stand still

    def _rate(self, lr: torch.Tensor | float, of_group: float) -> torch.Tensor | float:
        ratio = of_group / self.lr if self.lr else 1.0
        if not isinstance(lr, torch.Tensor):
            return lr if ratio == 1 else lr * ratio
        rate = lr.detach().reshape(())
        rate = rate if ratio == 1 else rate * ratio
        # a learning rate that asks for a gradient makes SGD multiply by it in one operation
        return rate.requires_grad_() if issubclass(self._prototype.kind, torch.optim.SGD) else rate

    def prepare(self, lr: str | float) -> None:
        """Tries a step on tensors without values, and records it for kinds with many parameters.

        Args:
            lr: the learning rate's key in the client_config, or a number.

        Raises:
            TraceError: the optimizer reads a value into Python.
        """
        rate: torch.Tensor | float = torch.empty(1) if isinstance(lr, str) else lr
        name = self._prototype.kind.__name__
        if not self._runs_without_values(rate):
            if isinstance(lr, str) and self._runs_without_values(self.lr):
                raise TraceError(
                    f"{name} reads its learning rate into Python, so the rate cannot come from the "
                    "client_config. Pass lr=0.01: a number that the Plan keeps."
                )
            raise TraceError(
                f"{name} reads values of tensors into Python, which a Plan does not have. Take another "
                "optimizer, such as AdamW."
            )
        if self._prototype.takes_each_alone:
            like = self._prototype.like
            counts = Counter(like.values())
            recorded = {n: self._record(n, rate) for n, count in counts.items() if count >= _WORTH_IT}
            self._recorded = {n: recorded[kind] for n, kind in like.items() if kind in recorded}

    def _runs_without_values(self, rate: torch.Tensor | float) -> bool:
        with FakeTensorMode(allow_non_fake_inputs=True):
            fakes = {n: torch.empty(p.shape, dtype=p.dtype) for n, p in self._prototype.examples.items()}
            gradients = {n: torch.empty_like(fake) for n, fake in fakes.items()}
            own = {tensor for n in fakes for tensor in self._own_state(n)}
            state = {s: torch.zeros(s.shape, dtype=s.dtype) for s in self.state if s in own}
            try:
                self._stepped(fakes, gradients, state, rate)
            except Exception:  # noqa: BLE001  # whatever the optimizer does there, it cannot be traced
                return False
        return True

    def _record(self, number: int, rate: torch.Tensor | float) -> Subgraph:
        """The step of one parameter: (parameter, gradient, learning rate if it is a tensor, *state)."""
        own, rates = self._own_state(number), [rate] if isinstance(rate, torch.Tensor) else []

        def step(
            parameter: torch.Tensor, gradient: torch.Tensor, *others: torch.Tensor
        ) -> list[torch.Tensor]:
            state = dict(zip(own, others[len(rates) :], strict=True))
            parameters = {number: parameter}
            with torch.no_grad():
                after = self._stepped(parameters, {number: gradient}, state, others[0] if rates else rate)
            return [parameters[number], *(after[tensor] for tensor in own)]

        example = self._prototype.examples[number]
        kept = [torch.zeros(tensor.shape, dtype=tensor.dtype) for tensor in own]
        return _recorded(step, [example, example, *rates, *kept])


def _by_parameter(state: Mapping[StateTensor, torch.Tensor], numbers: Collection[int]) -> State:
    """The state of some parameters."""
    kept: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
    for tensor, value in state.items():
        for number in tensor.parameters:
            if number in numbers:
                kept[number][tensor.name] = value
    return kept


def _in_order(kept: State, before: Mapping[StateTensor, torch.Tensor]) -> dict[StateTensor, torch.Tensor]:
    """The state after a step; that of parameters without a gradient is as before."""
    found = {}
    for tensor, value in before.items():
        after = (kept.get(number, {}).get(tensor.name) for number in tensor.parameters)
        found[tensor] = next((t for t in after if t is not None and t is not value), value)
    return found


_WORTH_IT = 4
"""How many parameters of a kind are faster to trace with a step that is recorded once."""

_TRACED_WITH = {"foreach": False, "fused": False, "differentiable": True, "capturable": True}
"""Settings with which an optimizer's arithmetic stays in tensors, one parameter after the other."""


def _recorded(function: Callable[..., list[torch.Tensor]], examples: Sequence[torch.Tensor]) -> Subgraph:
    """A function of tensors of these very shapes."""
    recording = record(function, examples, [False] * len(examples), must_stay_free=False)
    output = next(node for node in recording.module.graph.nodes if node.op == "output")
    made = [value.meta["val"] for value in output.args[0]]
    results = tuple((tuple(value.shape), value.dtype) for value in made)
    return Subgraph(lower(recording.module, recording.constants), results)
