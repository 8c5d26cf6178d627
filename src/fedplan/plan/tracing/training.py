"""`training_plan`: the usual training step of an `nn.Module`, as a Plan, in one call."""

import dataclasses
import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from fedplan.errors import TraceError
from fedplan.plan.dp_sgd import DpSgd
from fedplan.plan.plan import Plan
from fedplan.plan.spec import PlanInputSpec
from fedplan.plan.tracing.batch import Example
from fedplan.plan.tracing.contract import (
    with_kept_returned,
    with_roles,
    without_idle_state,
    without_unread_inputs,
)
from fedplan.plan.tracing.drift import ControlVariates, Remembering, corrections_of
from fedplan.plan.tracing.function import Given, make_plan
from fedplan.plan.tracing.module import idle_counters, module_state, module_tensors
from fedplan.plan.tracing.optimizer.prototype import OptimizerFactory
from fedplan.plan.tracing.optimizer.update import Update
from fedplan.plan.tracing.separable import check_arguments
from fedplan.plan.tracing.shared_memory import check_memory
from fedplan.plan.tracing.step import Score, Step, check_instances
from fedplan.plan.tracing.unchanged import unchanged
from fedplan.plan.tracing.untraced import untraced
from fedplan.text import did_you_mean


def accuracy(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Share of samples whose largest output is the target: float32, in [0, 1].

    Args:
        output: class scores, (batch, classes).
        target: class numbers, (batch,), or one-hot rows, (batch, classes).
    """
    wanted = target.argmax(dim=1) if target.dim() == output.dim() else target
    return (output.argmax(dim=1) == wanted).float().mean()


def training_plan(
    model: nn.Module,
    loss: Score | None = None,
    *,
    example: Any,
    optimizer: Optimizer | OptimizerFactory = torch.optim.SGD,
    lr: str | float = "lr",
    config: Sequence[str] = (),
    private: Sequence[str] = (),
    metrics: Mapping[str, Score] | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    proximal: str | float | None = None,
    dp: DpSgd | None = None,
    name: str = "training_plan",
    pin_batch: bool = False,
    batch_size_input: bool = False,
) -> Plan:
    """Makes the Plan of one training step: forward, loss, backward, clipping, optimizer, metrics.

    The Plan's inputs are the data, the target, the learning rate, the model (`model_parameters`) and the
    optimizer's state; its outputs are the loss, the metrics, the trained model and the optimizer's new state.
    All say what they are, so `job.train(name, data=…)` needs no specs. Layers behave as the module's mode
    says: in train mode a batch norm uses the batch's statistics and updates its running ones.

    The loss may use the module's parameters (``model.parameters()``) besides its output, as for a penalty on
    their size. A loss or metric with an argument `step` is given a `StepContext` by that name: the model as
    the worker received it, the numbers of the batch and of the cycle, and numbers of the client_config.

    Args:
        model: the module. It is not changed.
        loss: (output, target) → a scalar, such as `torch.nn.functional.cross_entropy`; (output) → a scalar
            where the example has no target. None: the model's output has it as `.loss`.
        example: a batch that shows shapes and dtypes, of tensors or arrays: (data, target), (data, None), or
            a dict of the model's arguments. Data may be a tensor, a list of the model's arguments, or a dict
            of them by name; data and target may be nested. Values do not matter.
        optimizer: a class such as `torch.optim.Adam`, a `functools.partial` of one with settings, or an
            optimizer made for the model, whose parameter groups may differ; what it does not hold is not
            trained. An optimizer's state starts anew with each training.
        lr: the client_config key from which workers take the learning rate, or a number that the Plan keeps.
            Groups with rates of their own keep the ratio to the optimizer's.
        config: further keys of the client_config, whose numbers the loss reads as ``step.config[key]``.
        private: names of the model's parameters and buffers that each worker keeps for itself, such as
            ``["head.*"]`` (`fnmatch` patterns): a personal head, a client's batch norm, SCAFFOLD's variates.
            A worker begins with the hosted values, goes on with its own from cycle to cycle, and reports
            nothing of them; the grid's model keeps the hosted ones.
        metrics: name → (output, target) → a scalar; computed on the output from before the update.
        clip_norm: scale the gradients so that their common 2-norm is at most this.
        clip_value: clamp each element of the gradients to [−clip_value, clip_value].
        proximal: FedProx: the client_config key of μ, such as ``"mu"``, or μ itself. The gradients get the
            term μ (w − w₀), where w₀ is the model as the worker received it. For SCAFFOLD and FedDyn give a
            `ControlVariates` or a `DynamicRegularizer` as the model.
        dp: DP-SGD: the gradient of each sample is clipped, their sum gets noise, and the optimizer takes
            that; see `DpSgd`. The loss must be the mean or the sum of its samples' losses, which is tried on
            the example; metrics must be means over samples. Only Python workers run such a Plan.
        name: name of the Plan.
        pin_batch: allow only the example's batch size.
        batch_size_input: take the batch size, (1,), float32, between target and learning rate. Nothing reads
            it; apps that were written for PySyft's MNIST example pass it as the third argument.

    Raises:
        TraceError: the step cannot be traced, or the optimizer cannot be part of a Plan.
        UnsupportedOpError: the step uses an operation outside the op table.
    """
    _check_module(model)
    check_memory(model)
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TraceError(
            f"`metrics` is a {type(metrics).__name__}, and must be a dict of names and functions, such as "
            "{'accuracy': fedplan.accuracy}"
        )
    scores = dict(metrics or {})
    _check_arguments(loss, scores, lr)
    if dp is not None:
        _check_dp(dp)
        check_arguments(model, pin_batch=pin_batch, clip_norm=clip_norm, clip_value=clip_value)
    batch = Example.read(example)
    state = module_state(model)
    trainable = {key: p for key, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise TraceError("the model has no parameter that requires a gradient, so there is nothing to train")
    for key, tensor in state.items():
        if tensor.is_meta:
            raise TraceError(f"'{key}' is on the device 'meta' and has no values: move it with `to_empty`")
    corrections = corrections_of(model, proximal)
    remembered = model if isinstance(model, Remembering) else None
    hidden = _named(private, list(state)) | _named(remembered.private if remembered else (), list(state))
    controls = _named(remembered.controls if remembered else (), list(state))
    config = list(dict.fromkeys([*config, *(key for one in corrections for key in one.config)]))
    update = Update(optimizer, list(trainable.values()))
    if isinstance(model, ControlVariates):
        update.check_plain_sgd()
    update.prepare(lr)
    step = Step(model, loss, scores, batch, update, lr, config, clip_norm, clip_value, corrections, dp)
    spec = PlanInputSpec
    groups = [
        [
            Given.example(leaf, place, item, pinned=pin_batch)
            for place, (leaf, item) in enumerate(zip(batch.tensors(), batch.specs(), strict=True))
        ],
        [Given("batchSize", torch.ones(1), spec(spec.TYPE_BATCH_SIZE))] if batch_size_input else [],
        [_number(lr, update.lr)] if isinstance(lr, str) else [],
        [
            Given(key, tensor.cpu(), spec(spec.TYPE_MODEL_PARAM, index=place))
            for place, (key, tensor) in enumerate(state.items())
        ],
        [
            Given(
                f"optimizer {kept.name}",
                torch.zeros(kept.shape, dtype=kept.dtype),
                spec(spec.TYPE_OPTIMIZER_STATE, index=place),
            )
            for place, kept in enumerate(update.state)
        ],
        [_number(key, 1.0) for key in config],
        [
            Given(f"received {key}", tensor.cpu(), spec(spec.TYPE_RECEIVED_PARAM, index=place))
            for place, (key, tensor) in enumerate(state.items())
        ]
        if step.has_context
        else [],
        [
            Given("step", torch.zeros(1, dtype=torch.int64), spec(spec.TYPE_STEP)),
            Given("cycle", torch.ones(1, dtype=torch.int64), spec(spec.TYPE_CYCLE)),
        ]
        if step.has_context
        else [],
        [Given("mask", torch.ones(len(batch.tensors()[0])), spec(spec.TYPE_MASK), free=True)] if dp else [],
    ]

    def grouped(*values: torch.Tensor) -> list[torch.Tensor]:
        given = iter(values)
        return step(*([next(given) for _ in group] for group in groups))

    given = [item for group in groups for item in group]
    rate = update.lr if isinstance(lr, str) else lr
    with unchanged(model, loss, *scores.values()) as kept:
        plan = make_plan(
            grouped,
            given,
            lambda _: step.outputs(),
            name,
            own=module_tensors(model),
            counters=idle_counters(model),
            kept=kept,
            reference=None if dp else untraced(model, step, update, batch, rate),
        )
    names = list(trainable)
    trained = {names[number] for number in update.trained}
    dtypes = {key: tensor.dtype for key, tensor in module_tensors(model).items()}
    plan = with_roles(with_kept_returned(plan, dtypes), trained, hidden, controls)
    return dataclasses.replace(without_unread_inputs(without_idle_state(plan)), dp=dp)


def _check_module(model: object) -> None:
    """Refuses what is taken for a module."""
    if isinstance(model, type) and issubclass(model, nn.Module):
        name = model.__name__
        raise TraceError(f"the model is the class {name}: make an nn.Module of it, {name}(…)")
    if not isinstance(model, nn.Module):
        raise TraceError(
            f"the model is of the type {type(model).__name__}, and must be an nn.Module: its forward pass is "
            "traced. For a step that is a function of tensors there is fedplan.trace"
        )


def _check_dp(dp: object) -> None:
    """Refuses what is taken for a DpSgd."""
    if not isinstance(dp, DpSgd):
        raise TraceError(
            f"dp is a {type(dp).__name__}, and must be a DpSgd: dp=fedplan.DpSgd(max_grad_norm=1.0, "
            "noise_multiplier=1.1, expected_batch_size=64)"
        )


def _check_arguments(loss: Score | None, metrics: Mapping[str, Score], lr: str | float) -> None:
    """Refuses usual slips."""
    if not isinstance(lr, str | float | int):
        raise TraceError(
            f"lr is a {type(lr).__name__}: give the client_config key of the learning rate, such as lr='lr', "
            "or a number that the Plan keeps"
        )
    if not isinstance(lr, str) and not 0 <= lr < math.inf:
        raise TraceError(f"lr is {lr}: a learning rate is a number from 0 up, or a client_config key")
    if "loss" in metrics:
        raise TraceError("a metric has the name 'loss', which is the loss's own: give it another one")
    check_instances(loss, metrics)


def _named(patterns: Sequence[str], names: Sequence[str]) -> set[str]:
    """The tensors of the model that are meant to be private."""
    if isinstance(patterns, str):
        raise TraceError(f"`private` must be a list of names, such as ['{patterns}'], not a text")
    found: set[str] = set()
    for pattern in patterns:
        meant = fnmatch.filter(names, pattern)
        if not meant:
            raise TraceError(
                f"`private` names '{pattern}', and the model has no tensor of that name. Its tensors are "
                f"{', '.join(names)}; 'head.*' means all that begin with 'head.'"
                f"{did_you_mean(pattern, names)}"
            )
        found.update(meant)
    if found == set(names):
        raise TraceError("all tensors of the model are private, so workers would have nothing to report")
    return found


def _number(key: str, value: float) -> Given:
    """A number of the client_config as an input."""
    return Given(key, torch.tensor([value]), PlanInputSpec(PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM, key))
