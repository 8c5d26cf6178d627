"""`training_plan`: the usual training step of an `nn.Module`, as a Plan, in one call."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from fedplan.errors import TraceError
from fedplan.plan.plan import Plan
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec
from fedplan.plan.tracing.function import trace
from fedplan.plan.tracing.module import module_state
from fedplan.plan.tracing.optimizers import OptimizerFactory, Update, check_takes_tensor_rate, read_optimizer

Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(model output, target) → one number, as a tensor."""


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
    loss: Score,
    *,
    example: tuple[torch.Tensor | Sequence[torch.Tensor], torch.Tensor],
    optimizer: Optimizer | OptimizerFactory = torch.optim.SGD,
    lr: str | float = "lr",
    metrics: Mapping[str, Score] | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    name: str = "training_plan",
    pin_batch: bool = False,
    batch_size_input: bool = False,
) -> Plan:
    """Makes the Plan of one training step: forward, loss, backward, clipping, optimizer, metrics.

    The Plan's inputs are the data, the target, the learning rate, the model (`model_parameters`) and the
    optimizer's state; its outputs are the loss, the metrics, the trained model and the optimizer's new state.
    All say what they are, so `job.train(name, data=…)` needs no specs. Layers behave as the module's mode
    says: in train mode a batch norm uses the batch's statistics and updates its running ones.

    Args:
        model: the module. It is not changed.
        loss: (output, target) → a scalar, such as `torch.nn.functional.cross_entropy`.
        example: a batch (data, target) that shows shapes and dtypes; data may be a list of tensors, which
            are passed to the model as its arguments. Values do not matter.
        optimizer: a class such as `torch.optim.Adam`, a `functools.partial` of one with settings, or an
            optimizer made for the model. One that keeps state gets it back batch by batch, from zeros.
        lr: the client_config key from which workers take the learning rate, or a number that the Plan keeps.
        metrics: name → (output, target) → a scalar; computed on the output from before the update.
        clip_norm: scale the gradients so that their common 2-norm is at most this.
        clip_value: clamp each element of the gradients to [−clip_value, clip_value].
        name: name of the Plan.
        pin_batch: allow only the example's batch size.
        batch_size_input: take the batch size, (1,), float32, between target and learning rate. Nothing reads
            it; apps that were written for PySyft's MNIST example pass it as the third argument.

    Raises:
        TraceError: the step cannot be traced, or the optimizer cannot be part of a Plan.
        UnsupportedOpError: the step uses an operation outside the op table.
    """
    data, target = example
    several = not isinstance(data, torch.Tensor)
    inputs = list(data) if several else [data]
    state = module_state(model)
    trained = [key for key, parameter in model.named_parameters() if parameter.requires_grad]
    if not trained:
        raise TraceError("the model has no parameter that requires a gradient, so there is nothing to train")
    update = read_optimizer(optimizer, [state[key] for key in trained])
    scores = dict(metrics or {})
    rates = []
    if isinstance(lr, str):
        check_takes_tensor_rate(update, [state[key] for key in trained])
        rates = [torch.tensor([update.lr])]

    def step(
        data: list[torch.Tensor],
        target: torch.Tensor,
        _: list[torch.Tensor],
        rates: list[torch.Tensor],
        parameters: list[torch.Tensor],
        optimizer_state: list[torch.Tensor],
    ) -> list[torch.Tensor]:
        tensors = _own(model, dict(zip(state, parameters, strict=True)), trained)
        output = torch.func.functional_call(model, tensors, tuple(data))
        cost = loss(output, target)
        if cost.dim() != 0:
            raise TraceError(f"the loss has the shape {list(cost.shape)}; a scalar is needed: take its mean")
        gradients = torch.autograd.grad(cost, [tensors[key] for key in trained], allow_unused=True)
        measured = [score(output.detach(), target) for score in scores.values()]
        with torch.no_grad():
            pairs = zip(trained, gradients, strict=True)
            whole = [torch.zeros_like(tensors[k]) if g is None else g.clone() for k, g in pairs]
            whole = _clipped(whole, clip_norm, clip_value)
            rate = rates[0] if rates else lr
            assert not isinstance(rate, str)
            new, kept = update([tensors[key] for key in trained], whole, optimizer_state, rate)
        tensors.update(zip(trained, new, strict=True))
        return [cost, *measured, *(tensors[key] for key in state), *kept]

    optimizer_state = [torch.zeros(s.shape, dtype=s.dtype) for s in update.state]
    return trace(
        step,
        inputs,
        target,
        [torch.ones(1)] if batch_size_input else [],
        rates,
        list(state.values()),
        optimizer_state,
        name=name,
        inputs=_input_specs(len(inputs) if several else None, batch_size_input, lr, len(state), update),
        outputs=_output_specs(list(scores), len(state), update),
        pin_batch=pin_batch,
    )


def _own(
    model: nn.Module, given: Mapping[str, torch.Tensor], trained: Sequence[str]
) -> dict[str, torch.Tensor]:
    """The tensors that the module computes with: copies, so that what it writes in place stays here."""
    tensors = {key: value.detach().clone() for key, value in given.items()}
    for key in trained:
        tensors[key].requires_grad_()
    others = {key: b for key, b in model.named_buffers() if key not in tensors}
    return tensors | {key: value.clone() for key, value in others.items()}


def _clipped(
    gradients: list[torch.Tensor], clip_norm: float | None, clip_value: float | None
) -> list[torch.Tensor]:
    holders = [torch.empty_like(g) for g in gradients]
    for holder, gradient in zip(holders, gradients, strict=True):
        holder.grad = gradient
    if clip_value is not None:
        nn.utils.clip_grad_value_(holders, clip_value, foreach=False)
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(holders, clip_norm, foreach=False)
    return [holder.grad for holder in holders if holder.grad is not None]


def _input_specs(
    data: int | None, batch_size: bool, lr: str | float, parameters: int, update: Update
) -> list[PlanInputSpec]:
    spec = PlanInputSpec
    return [
        *([spec(spec.TYPE_DATA)] if data is None else [spec(spec.TYPE_DATA, index=i) for i in range(data)]),
        spec(spec.TYPE_TARGET),
        *([spec(spec.TYPE_BATCH_SIZE)] if batch_size else []),
        *([spec(spec.TYPE_CLIENT_CONFIG_PARAM, lr)] if isinstance(lr, str) else []),
        *(spec(spec.TYPE_MODEL_PARAM, index=i) for i in range(parameters)),
        *(spec(spec.TYPE_OPTIMIZER_STATE, index=i) for i in range(len(update.state))),
    ]


def _output_specs(metrics: Sequence[str], parameters: int, update: Update) -> list[PlanOutputSpec]:
    spec = PlanOutputSpec
    return [
        spec(spec.TYPE_LOSS),
        *(spec(spec.TYPE_METRIC, name) for name in metrics),
        *(spec(spec.TYPE_MODEL_PARAM, index=i) for i in range(parameters)),
        *(spec(spec.TYPE_OPTIMIZER_STATE, index=i) for i in range(len(update.state))),
    ]
