"""A training step of a module as one function of tensors: what is traced for `training_plan`."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils import stateless

from fedplan.errors import TraceError
from fedplan.plan.dp_sgd import DpSgd
from fedplan.plan.signature import PlanOutput
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec
from fedplan.plan.tracing import words
from fedplan.plan.tracing.batch import Example, detached, loss_of
from fedplan.plan.tracing.context import ConfigNumbers, NamedTensors, StepContext, wants_context
from fedplan.plan.tracing.drift import Correction
from fedplan.plan.tracing.module import idle_counters, module_tensors
from fedplan.plan.tracing.notes import Notes
from fedplan.plan.tracing.optimizer.update import Update
from fedplan.plan.tracing.per_sample import Tensors, noisy_gradients
from fedplan.plan.tracing.separable import check_batch, check_separable

Score = Callable[..., torch.Tensor]
"""(model output, target) → one number, as a tensor."""


class Step:
    """(batch, learning rate, model, optimizer state) → (loss, metrics, new model, new optimizer state).

    The module computes with the tensors that it is given, from the forward pass until its gradients are
    there: so a loss that reads ``model.parameters()``, and layers that are computed again for their gradient
    (`torch.utils.checkpoint`), see the tensors of the step.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Score | None,
        scores: Mapping[str, Score],
        example: Example,
        update: Update,
        lr: str | float,
        config: Sequence[str],
        clip_norm: float | None,
        clip_value: float | None,
        corrections: Sequence[Correction] = (),
        dp: DpSgd | None = None,
    ) -> None:
        """See `training_plan`."""
        self._model = model
        self._loss = loss
        self._scores = scores
        self._example = example
        self._update = update
        self._lr = lr
        self._config = config
        self._clip_norm, self._clip_value = clip_norm, clip_value
        self._corrections = corrections
        self._dp = dp
        self.tensors = module_tensors(model)
        self.trainable = [name for name, p in model.named_parameters() if p.requires_grad]
        self._batch = len(example.tensors())
        self.has_context = bool(corrections) or any(map(wants_context, (loss, *scores.values())))
        self._reached = set(self.trainable)
        if dp is not None:
            self._reached = self._check_separable()

    def outputs(self) -> list[PlanOutput]:
        """What the step returns, in order."""
        spec = PlanOutputSpec
        return [
            PlanOutput("loss", spec(spec.TYPE_LOSS)),
            *(PlanOutput(name, spec(spec.TYPE_METRIC, name)) for name in self._scores),
            *(PlanOutput(name, spec(spec.TYPE_MODEL_PARAM, index=i)) for i, name in enumerate(self.tensors)),
            *(
                PlanOutput(f"optimizer {tensor.name}", spec(spec.TYPE_OPTIMIZER_STATE, index=i))
                for i, tensor in enumerate(self._update.state)
            ),
        ]

    def __call__(
        self,
        batch: Sequence[torch.Tensor],
        _: Sequence[torch.Tensor],
        rates: Sequence[torch.Tensor],
        model: Sequence[torch.Tensor],
        state: Sequence[torch.Tensor],
        config: Sequence[torch.Tensor],
        received: Sequence[torch.Tensor],
        numbers: Sequence[torch.Tensor],
        masks: Sequence[torch.Tensor] = (),
    ) -> list[torch.Tensor]:
        """One step.

        Args:
            batch: the tensors of the data and the target.
            rates: the learning rate, if it is an input.
            model: its tensors, in order.
            state: the optimizer's.
            config: numbers of the client_config, in order.
            received: the model's tensors as received, and
            numbers: the step's and the cycle's, if the loss asks for them.
            masks: which rows of the batch count, with DP-SGD.
        """
        given = dict(zip(self.tensors, model, strict=True))
        context = None
        if self.has_context:
            pairs = zip(self.tensors, received, strict=True)
            kept = NamedTensors((name, as_held(value, self.tensors[name].dtype)) for name, value in pairs)
            pairs = zip(self._config, config, strict=True)
            settings = ConfigNumbers((key, value.reshape(())) for key, value in pairs)
            number, cycle = (value.reshape(()) for value in numbers)
            context = StepContext({}, kept, number, cycle, settings)
        if self._dp is None:
            data, target = self._example.filled(batch)
            cost, measured, gradients, after = self._gradients(data, target, given, context)
        else:
            cost, measured, gradients, after = self._noisy_gradients(
                batch, masks[0], given, context, self._dp
            )
        with torch.no_grad():
            whole = _clipped(self._corrected(gradients, after, context), self._clip_norm, self._clip_value)
            before = [after[name] for name in self.trainable]
            rate = self._lr if isinstance(self._lr, float | int) else rates[0]
            new, new_state = self._update(before, whole, state, rate)
            after.update(zip(self.trainable, new, strict=True))
            for correction in self._corrections:
                after.update(correction.remembered(after, _known(context), rate))
        trained = [_as_given(name, given[name], after[name]) for name in self.tensors]
        return [cost, *measured, *trained, *new_state]

    def _corrected(
        self,
        gradients: Sequence[torch.Tensor | None],
        now: Mapping[str, torch.Tensor],
        context: StepContext | None,
    ) -> list[torch.Tensor | None]:
        """The gradients with what keeps a worker from drifting away."""
        found = dict(zip(self.trainable, gradients, strict=True))
        for correction in self._corrections:
            for name, gradient in found.items():
                if gradient is not None:
                    found[name] = correction.gradient(name, gradient, now[name], _known(context))
        return list(found.values())

    def _gradients(
        self, data: Any, target: Any, given: Mapping[str, torch.Tensor], context: StepContext | None
    ) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor | None], dict[str, torch.Tensor]]:
        """Loss, metrics, a gradient for each trainable parameter, and the tensors as the module left them."""
        tensors = self._own(given)
        trained = [tensors[name] for name in self.trainable]
        if context is not None:
            context = dataclasses.replace(context, parameters=NamedTensors((n, tensors[n]) for n in given))
        with stateless._reparametrize_module(self._model, tensors, tie_weights=True):
            output = self._example.call(self._model, data)
            cost = self._cost(output, target, context)
            _check_leaves(cost, trained)
            cost.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            seen = detached(output)
            measured = [
                self._score(f"the metric '{name}'", score, seen, target, context)
                for name, score in self._scores.items()
            ]
        return cost.detach(), measured, [t.grad for t in trained], tensors

    def _noisy_gradients(
        self,
        batch: Sequence[torch.Tensor],
        mask: torch.Tensor,
        given: Mapping[str, torch.Tensor],
        context: StepContext | None,
        dp: DpSgd,
    ) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor | None], dict[str, torch.Tensor]]:
        """The same with the gradients of DP-SGD. The module has changed nothing: that was checked."""
        tensors = {name: as_held(value, self.tensors[name].dtype) for name, value in given.items()}

        def measure(
            trained: Tensors, sample: Sequence[torch.Tensor]
        ) -> tuple[torch.Tensor, list[torch.Tensor]]:
            return self._measured({**tensors, **trained}, sample, context)

        trained = {name: tensors[name] for name in self.trainable if name in self._reached}
        cost, measured, made = noisy_gradients(measure, trained, batch, mask, dp)
        return cost, measured, [made.get(name) for name in self.trainable], tensors

    def _measured(
        self, tensors: Tensors, batch: Sequence[torch.Tensor], context: StepContext | None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Loss and metrics of a batch, computed with these tensors."""
        data, target = self._example.filled(batch)
        if context is not None:
            context = dataclasses.replace(
                context, parameters=NamedTensors((n, tensors[n]) for n in self.tensors)
            )
        with stateless._reparametrize_module(self._model, dict(tensors), tie_weights=True):
            output = self._example.call(self._model, data)
            cost = self._cost(output, target, context)
        seen = detached(output)
        measured = [
            self._score(f"the metric '{name}'", score, seen, target, context)
            for name, score in self._scores.items()
        ]
        return cost, measured

    def _check_separable(self) -> set[str]:
        """Refuses what has no gradients of single samples; the names of what the loss depends on."""
        batch = [torch.as_tensor(leaf) for leaf in self._example.tensors()]
        check_batch(batch)
        tensors = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        context = None
        if self.has_context:
            received = NamedTensors((name, tensor.clone()) for name, tensor in tensors.items())
            config = ConfigNumbers((key, torch.tensor(1.0)) for key in self._config)
            context = StepContext({}, received, torch.tensor(0), torch.tensor(1), config)
        for name in self.trainable:
            tensors[name].requires_grad_()

        def whole(tensors: Tensors, batch: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
            return self._measured(tensors, batch, context)

        data = sum(spec.type == PlanInputSpec.TYPE_DATA for spec in self._example.specs())
        return check_separable(self._model, whole, tensors, batch, data, list(self._scores))

    def measured(self, data: Any, target: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Loss and metrics of the model as it is; its parameters get their gradients."""
        output = self._example.call(self._model, data)
        cost = self._cost(output, target, None)
        cost.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            scores = [
                self._score(name, s, detached(output), target, None) for name, s in self._scores.items()
            ]
        return cost.detach(), scores

    def clipped(self, gradients: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """Gradients as the optimizer gets them."""
        return _clipped(gradients, self._clip_norm, self._clip_value)

    def _own(self, given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The tensors that the module computes with. It may write to them, which is recorded."""
        tensors = {name: as_held(value, self.tensors[name].dtype) for name, value in given.items()}
        parameters = dict(self._model.named_parameters())
        for name in parameters.keys() & tensors.keys():
            vars(tensors[name]).update(vars(parameters[name]))  # what the author has noted on them
            tensors[name]._is_param = True  # for `isinstance(…, nn.Parameter)`
        for name in self.trainable:
            _add_hooks(tensors[name].requires_grad_(), parameters[name])
        idle = idle_counters(self._model)  # a batch norm counts in them, and nothing reads that
        return tensors | {name: counter.clone() for name, counter in idle.items()}

    def _cost(self, output: Any, target: Any, context: StepContext | None) -> torch.Tensor:
        cost = (
            loss_of(output)
            if self._loss is None
            else self._score("the loss", self._loss, output, target, context)
        )
        check_scalar(cost)
        if not cost.requires_grad:
            raise TraceError(
                "the loss does not depend on any parameter that is trained: a `detach()`, `no_grad()` or "
                "`argmax` on its way, or parameters that do not require a gradient"
            )
        return cost

    def _score(
        self, what: str, score: Score, output: Any, target: Any, context: StepContext | None
    ) -> torch.Tensor:
        given = (output,) if self._example.target is None else (output, target)
        return scored(what, score, given, context)


def _known(context: StepContext | None) -> StepContext:
    """The context of a step that has one, for it is corrected."""
    if context is None:
        raise TraceError("a step with corrections needs its context")
    return context


def scored(what: str, score: Score, given: Sequence[Any], context: StepContext | None = None) -> torch.Tensor:
    """What a loss or a metric makes of the model's output and the target.

    Raises:
        TraceError: it returns no tensor.
    """
    found = score(*given, step=context) if wants_context(score) else score(*given)
    if not isinstance(found, torch.Tensor):
        kind = (
            "number"
            if isinstance(found, float | int | torch.SymFloat | torch.SymInt)
            else type(found).__name__
        )
        raise TraceError(
            f"{what} returns a {kind}, and must return a tensor of one number: leave `.item()` and "
            "`float(…)` out, and do not forget `return`"
        )
    return found


def check_instances(loss: Score | None, metrics: Mapping[str, Score]) -> None:
    """Raises TraceError for a loss or a metric that is a class where one of its instances is meant."""
    named = {"the loss": loss, **{f"the metric '{name}'": score for name, score in metrics.items()}}
    for what, score in named.items():
        if isinstance(score, type):
            raise TraceError(f"{what} is the class {score.__name__}: call it, {score.__name__}()")


def check_scalar(cost: torch.Tensor) -> None:
    """Raises TraceError for a loss that is no scalar."""
    if cost.dim() != 0:
        raise TraceError(
            f"the loss has the shape {words.extents_of(cost)}; a scalar is needed: take its mean"
        )


def _add_hooks(tensor: torch.Tensor, parameter: nn.Parameter) -> None:
    """Lets the functions that the author has registered for a parameter's gradient see that of the step."""
    for hook in (parameter._backward_hooks or {}).values():
        tensor.register_hook(hook)  # type: ignore[no-untyped-call]
    for hook in (getattr(parameter, "_post_accumulate_grad_hooks", None) or {}).values():
        tensor.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]


def as_held(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """An input in the dtype that the module has it in."""
    return value if value.dtype == dtype else value.to(dtype)


def _as_given(name: str, given: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """A tensor of the module after the step, in the dtype in which it came.

    Raises:
        TraceError: it has another shape, so the next step could not have it.
    """
    extents: tuple[object, ...] = tuple(after.shape)
    if any(isinstance(extent, torch.SymInt) for extent in extents) or extents != tuple(given.shape):
        raise TraceError(
            f"'{name}' has the shape {words.extents_of(given)}, and {words.extents_of(after)} after the "
            "step. A Plan's tensors keep their shapes: make it as large as it may become, and write to a part"
        )
    return after if after.dtype == given.dtype else after.to(given.dtype)


def _check_leaves(cost: torch.Tensor, trained: Sequence[torch.Tensor]) -> None:
    """Refuses gradients of tensors that are not the step's: a Plan would keep these as they are now."""
    own = {id(tensor) for tensor in trained}
    for leaf, reader in _leaves(cost):
        if id(leaf) not in own and not isinstance(leaf, FakeTensor):  # a fake one the step made itself
            place = Notes.running.place_of_function(reader) if Notes.running and reader is not None else None
            where = f" (at {place})" if place else ""
            raise TraceError(
                f"the loss depends on a tensor of the shape {list(leaf.shape)}{where} that requires a "
                "gradient and is no parameter of the model. A Plan would keep it as it is now. Make it part "
                "of the model, read the model's parameters where the loss is computed (`model.parameters()`, "
                "not a list made before), or turn its gradient off (`requires_grad_(False)`)"
            )


def _leaves(cost: torch.Tensor) -> Iterator[tuple[torch.Tensor, Any]]:
    """The tensors that a gradient goes to, each with the function that reads it."""
    waiting: list[tuple[Any, Any]] = [(cost.grad_fn, None)]
    seen = set()
    while waiting:
        node, reader = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable, reader
        waiting += [(following, node) for following, _ in node.next_functions]


def _clipped(
    gradients: Sequence[torch.Tensor | None], clip_norm: float | None, clip_value: float | None
) -> list[torch.Tensor | None]:
    if clip_norm is None and clip_value is None:
        return list(gradients)
    gradients = [None if g is None else g.clone() for g in gradients]  # two may share memory
    holders = [None if g is None else torch.empty_like(g) for g in gradients]
    for holder, gradient in zip(holders, gradients, strict=True):
        if holder is not None:
            holder.grad = gradient
    held = [holder for holder in holders if holder is not None]
    if clip_value is not None:
        nn.utils.clip_grad_value_(held, clip_value, foreach=False)
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(held, clip_norm, foreach=False)
    return [None if holder is None else holder.grad for holder in holders]
