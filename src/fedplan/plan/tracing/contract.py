"""What a traced step turns out to do with what it is given: roles of the model's tensors, idle state."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch

from fedplan.plan.ir.graph import Ref
from fedplan.plan.ir.rewrite import prune, renumber
from fedplan.plan.ops import dtype_name
from fedplan.plan.plan import Plan
from fedplan.plan.signature import PlanInput, PlanOutput, Role
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec

_RETURNED = {
    PlanInputSpec.TYPE_MODEL_PARAM: PlanOutputSpec.TYPE_MODEL_PARAM,
    PlanInputSpec.TYPE_OPTIMIZER_STATE: PlanOutputSpec.TYPE_OPTIMIZER_STATE,
}
"""What kind of output an input comes back as."""


def with_roles(plan: Plan, trained: set[str], private: set[str], controls: set[str]) -> Plan:
    """The Plan of a step with the role of each tensor of the model.

    Args:
        plan: its inputs that are parameters of the model bear their names.
        trained: the parameters that the optimizer may change.
        private: the tensors that each worker keeps for itself, whether this step changes them or not.
        controls: control variates, which the grid changes from what workers report.
    """
    idle = _idle(plan)

    def role(item: PlanInput) -> Role | None:
        if item.spec is None or item.spec.type != PlanInputSpec.TYPE_MODEL_PARAM:
            return None
        if item.name in private:
            return Role.PRIVATE
        if item.name in controls:
            return Role.CONTROL
        if item.spec in idle:
            return Role.FROZEN
        if item.name in trained:
            return Role.TRAINED
        return Role.COUNTER if (item.dtype or "").startswith("int") else Role.AVERAGED

    return dataclasses.replace(
        plan, inputs=tuple(dataclasses.replace(item, role=role(item)) for item in plan.inputs)
    )


def with_kept_returned(plan: Plan, dtypes: Mapping[str, torch.dtype]) -> Plan:
    """The Plan of a step, returning tensors of the model that it does not change as they came.

    Whole numbers and truth values travel in another dtype than the module has them in, so the step converts
    them, and back.

    Args:
        plan: its inputs that are tensors of the model bear their names.
        dtypes: in which the module has them, by name.
    """
    casts = {node.results[0]: node.args for node in plan.graph.nodes if node.op == "aten._to_copy.default"}
    kept: dict[int, int] = {}
    for number, item in zip(plan.graph.inputs, plan.inputs, strict=True):
        if item.spec is not None and item.spec.type == PlanInputSpec.TYPE_MODEL_PARAM:
            held = dtype_name(dtypes[item.name])
            inner = [result for result, args in casts.items() if args == (Ref(number), held)]
            back = [result for result, args in casts.items() if args in [(Ref(i), item.dtype) for i in inner]]
            kept.update((result, number) for result in back if held != item.dtype)
    outputs = tuple(
        kept.get(number, number) if _is_tensor_of_model(output) else number
        for number, output in zip(plan.graph.outputs, plan.outputs, strict=True)
    )
    graph = dataclasses.replace(plan.graph, outputs=outputs)
    return dataclasses.replace(plan, graph=renumber(prune(graph)))


def _is_tensor_of_model(output: PlanOutput) -> bool:
    return output.spec is not None and output.spec.type == PlanOutputSpec.TYPE_MODEL_PARAM


def without_idle_state(plan: Plan) -> Plan:
    """The Plan without optimizer state that it only hands on, as for parameters that the loss ignores."""
    kind = PlanInputSpec.TYPE_OPTIMIZER_STATE
    gone = {spec.index for spec in _idle(plan) if spec.type == kind}
    if not gone:
        return plan
    kept = [i.spec.index for i in plan.inputs if i.spec and i.spec.type == kind and i.spec.index not in gone]
    places = {index: place for place, index in enumerate(kept)}
    inputs, numbers = _settled(plan.inputs, plan.graph.inputs, kind, places)
    outputs, results = _settled(plan.outputs, plan.graph.outputs, _RETURNED[kind], places)
    graph = dataclasses.replace(plan.graph, inputs=numbers, outputs=results)
    return dataclasses.replace(plan, inputs=inputs, outputs=outputs, graph=renumber(graph))


def without_unread_inputs(plan: Plan) -> Plan:
    """The Plan without those inputs that are there in case the loss asks for them, which it does not."""
    read = {number for node in plan.graph.nodes for number in node.refs()} | set(plan.graph.outputs)
    offered = (PlanInputSpec.TYPE_RECEIVED_PARAM, PlanInputSpec.TYPE_STEP, PlanInputSpec.TYPE_CYCLE)
    kept = [
        (number, item)
        for number, item in zip(plan.graph.inputs, plan.inputs, strict=True)
        if number in read or item.spec is None or item.spec.type not in offered
    ]
    graph = dataclasses.replace(plan.graph, inputs=tuple(number for number, _ in kept))
    return dataclasses.replace(plan, inputs=tuple(item for _, item in kept), graph=renumber(graph))


_Item = TypeVar("_Item", PlanInput, PlanOutput)


def _settled(
    items: Sequence[_Item], numbers: Sequence[int], kind: str, places: Mapping[int | None, int]
) -> tuple[tuple[_Item, ...], tuple[int, ...]]:
    """Inputs or outputs with those of one kind at their new places, and without those that have none."""
    kept: list[tuple[_Item, int]] = []
    for item, number in zip(items, numbers, strict=True):
        if item.spec is None or item.spec.type != kind:
            kept.append((item, number))
        elif item.spec.index in places:
            spec: Any = dataclasses.replace(item.spec, index=places[item.spec.index])
            kept.append((dataclasses.replace(item, spec=spec), number))
    return tuple(item for item, _ in kept), tuple(number for _, number in kept)


def _idle(plan: Plan) -> list[PlanInputSpec]:
    """The specs of inputs that come back as they went in."""
    outputs = {
        (item.spec.type, item.spec.index): number
        for number, item in zip(plan.graph.outputs, plan.outputs, strict=True)
        if item.spec is not None
    }
    return [
        item.spec
        for number, item in zip(plan.graph.inputs, plan.inputs, strict=True)
        if item.spec is not None
        and item.spec.type in _RETURNED
        and outputs.get((_RETURNED[item.spec.type], item.spec.index)) == number
    ]
