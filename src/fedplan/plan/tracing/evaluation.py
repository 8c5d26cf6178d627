"""`evaluation_plan`: what a model is worth on a batch, as a Plan."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import stateless

from fedplan.errors import TraceError
from fedplan.plan.plan import Plan
from fedplan.plan.signature import PlanOutput
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec
from fedplan.plan.tracing.batch import Example, loss_of
from fedplan.plan.tracing.context import wants_context
from fedplan.plan.tracing.first_run import Expected, expected_of
from fedplan.plan.tracing.function import Given, make_plan
from fedplan.plan.tracing.module import module_state, module_tensors
from fedplan.plan.tracing.step import Score, as_held, check_instances, check_scalar, scored
from fedplan.plan.tracing.unchanged import unchanged


def evaluation_plan(
    model: nn.Module,
    loss: Score | None = None,
    *,
    example: Any,
    metrics: Mapping[str, Score] | None = None,
    name: str = "evaluation_plan",
    pin_batch: bool = False,
) -> Plan:
    """Makes the Plan that measures a model on a batch: forward, loss, metrics. It changes nothing.

    Host it under the name ``evaluation_plan`` beside the training Plan: workers run it on the model as they
    receive it, and the grid keeps the means over their samples; see `ModelCentricFLClient.history`.

    Layers behave as in `nn.Module.eval`: no dropout, and a batch norm uses its running statistics.

    Args:
        model: the module. It is not changed.
        loss: (output, target) → a scalar, the mean over the batch; (output) → a scalar where the example has
            no target. None: the model's output has it as `.loss`.
        example: a batch that shows shapes and dtypes; see `training_plan`.
        metrics: name → (output, target) → a scalar, the mean over the batch.
        name: name of the Plan.
        pin_batch: allow only the example's batch size.

    Raises:
        TraceError: the evaluation cannot be traced.
        UnsupportedOpError: it uses an operation outside the op table.
    """
    scores = dict(metrics or {})
    check_instances(loss, scores)
    for what, score in {"loss": loss, **scores}.items():
        if wants_context(score):
            raise TraceError(
                f"'{what}' has an argument `step`, and an evaluation is no step: give it another function"
            )
    batch, state, tensors = Example.read(example), module_state(model), module_tensors(model)
    held = len(batch.tensors())
    given = [
        *(
            Given.example(leaf, place, item, pinned=pin_batch)
            for place, (leaf, item) in enumerate(zip(batch.tensors(), batch.specs(), strict=True))
        ),
        *(
            Given(key, tensor.cpu(), PlanInputSpec(PlanInputSpec.TYPE_MODEL_PARAM, index=place))
            for place, (key, tensor) in enumerate(state.items())
        ),
    ]

    def measure(*values: torch.Tensor) -> list[torch.Tensor]:
        data, target = batch.filled(values[:held])
        pairs = zip(tensors, values[held:], strict=True)
        own = {key: as_held(value, tensors[key].dtype) for key, value in pairs}
        others = {key: buffer for key, buffer in model.named_buffers() if key not in own}
        own |= {key: buffer.clone() for key, buffer in others.items()}
        with torch.no_grad(), stateless._reparametrize_module(model, own, tie_weights=True):
            output = batch.call(model, data)
            seen = (output,) if batch.target is None else (output, target)
            cost = loss_of(output) if loss is None else scored("the loss", loss, seen)
            check_scalar(cost)
            return [cost, *(scored(f"the metric '{key}'", score, seen) for key, score in scores.items())]

    outputs = [
        PlanOutput("loss", PlanOutputSpec(PlanOutputSpec.TYPE_LOSS)),
        *(PlanOutput(key, PlanOutputSpec(PlanOutputSpec.TYPE_METRIC, key)) for key in scores),
    ]

    def untraced(*values: torch.Tensor) -> list[Expected]:
        model.eval()
        return expected_of(measure(*values), values)

    with unchanged(model, loss, *scores.values()) as kept:  # its mode is put back too
        model.eval()
        return make_plan(measure, given, lambda _: outputs, name, own=tensors, kept=kept, reference=untraced)
