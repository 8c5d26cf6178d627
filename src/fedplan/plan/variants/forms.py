"""The variants of Plans besides the op list: how each is made, run, and looked into."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import PlanFormatError
from fedplan.plan.plan import Plan
from fedplan.plan.variants import torchscript
from fedplan.plan.variants.tfjs import interpreter
from fedplan.plan.variants.tfjs.translate import translate
from fedplan.wire import schema

Arguments = Sequence[torch.Tensor]


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """One kind of variant.

    Attributes:
        make: what `Variants` holds of it, for a Plan.
        run: the outputs of a Plan's variant, for the Plan's flat arguments.
        values: what the variant computes on its way, by the numbers of the Plan's values.
    """

    make: Callable[[Plan], Any]
    run: Callable[[Plan, Arguments], list[torch.Tensor]]
    values: Callable[[Plan, Arguments], Mapping[Any, Any]]


def _role(plan: Plan) -> schema.Role:
    if plan.variants.tfjs is None:
        raise PlanFormatError(f"the Plan '{plan.name}' has no tfjs variant")
    return plan.variants.tfjs


FORMS: Mapping[str, Form] = {
    "torchscript": Form(
        torchscript.write,
        lambda plan, arguments: torchscript.run(plan.variants.torchscript, arguments),
        lambda plan, arguments: torchscript.values(plan.variants.torchscript, arguments),
    ),
    "tfjs": Form(
        lambda plan: translate(plan.graph, plan.inputs),
        lambda plan, arguments: interpreter.execute(_role(plan), arguments),
        lambda plan, arguments: interpreter.run(_role(plan), arguments),
    ),
}
"""By the name of the variant, which is a value of `receive_operations_as`."""
