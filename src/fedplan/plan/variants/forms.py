"""The variants of Plans besides the op list: how each is made, run, and looked into."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import PlanFormatError
from fedplan.plan.plan import Plan
from fedplan.plan.variants import torchscript
from fedplan.plan.variants.random_inputs import drawn, given
from fedplan.plan.variants.tfjs import interpreter
from fedplan.plan.variants.tfjs.translate import translate
from fedplan.wire import schema

Arguments = Sequence[torch.Tensor]


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """One kind of variant.

    Attributes:
        make: what `Variants` holds of it, for a Plan.
        run: the outputs of a Plan's variant, for the Plan's flat arguments and the seed with which
            `random_inputs.draw` made those of random inputs.
        values: what the variant computes on its way, by the numbers of the Plan's values.
    """

    make: Callable[[Plan], Any]
    run: Callable[[Plan, Arguments, int], list[torch.Tensor]]
    values: Callable[[Plan, Arguments, int], Mapping[Any, Any]]


def _role(plan: Plan) -> schema.Role:
    if plan.variants.tfjs is None:
        raise PlanFormatError(f"the Plan '{plan.name}' has no tfjs variant")
    return plan.variants.tfjs


def _run(plan: Plan, arguments: Arguments, seed: int) -> list[torch.Tensor]:
    return torchscript.run(plan.variants.torchscript, given(plan.inputs, arguments), seed)


def _values(plan: Plan, arguments: Arguments, seed: int) -> Mapping[Any, Any]:
    return torchscript.values(plan.variants.torchscript, given(plan.inputs, arguments), seed)


def _scope(plan: Plan, arguments: Arguments, seed: int) -> Mapping[Any, Any]:
    """tfjs has generators of its own; here they answer with the arguments of the random inputs."""
    numbers = drawn(plan.graph, plan.inputs, arguments)
    return interpreter.run(_role(plan), given(plan.inputs, arguments), numbers)


def _execute(plan: Plan, arguments: Arguments, seed: int) -> list[torch.Tensor]:
    numbers = drawn(plan.graph, plan.inputs, arguments)
    return interpreter.execute(_role(plan), given(plan.inputs, arguments), numbers)


FORMS: Mapping[str, Form] = {
    "torchscript": Form(torchscript.write, _run, _values),
    "tfjs": Form(lambda plan: translate(plan.graph, plan.inputs), _execute, _scope),
}
"""By the name of the variant, which is a value of `receive_operations_as`."""
