"""A Plan as plain values, for people and for JSON."""

import dataclasses
from collections import Counter
from typing import Any, TypedDict

from fedplan.errors import PlanError
from fedplan.plan.ir.graph import Arg, Node, Ref
from fedplan.plan.leaving import leaving
from fedplan.plan.ops import lookup
from fedplan.plan.plan import Plan
from fedplan.plan.run.check import Measured, measure


class Listing(TypedDict):
    """All that a Plan does. Values are named ``%0``, ``%1`` …; a shape's unknown extents are None.

    `uses` counts the operations of each name, and `leaves` is a `Leaving`: what a report would tell the grid.
    `dp_sgd` has the constants of DP-SGD that the Plan's author says (`Plan.dp`); None without.
    """

    name: str
    bytes: int
    variants: list[str]
    dp_sgd: dict[str, Any] | None
    inputs: list[dict[str, Any]]
    constants: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    operations: list[dict[str, Any]]
    uses: dict[str, int]
    leaves: dict[str, Any]
    estimate: dict[str, Any]


def list_plan(plan: Plan, size: int, batch: int) -> Listing:
    """Lists a Plan.

    Args:
        plan: the Plan.
        size: bytes of its file.
        batch: what a dimension of any size is taken for in the estimate and in the shapes of results.

    Raises:
        PlanFormatError: an operation's arguments do not fit it.
    """
    measured = _measure(plan, batch)
    values = measured.values if isinstance(measured, Measured) else {}
    return Listing(
        name=plan.name,
        bytes=size,
        variants=["list", *plan.variants.names()],
        dp_sgd=None if plan.dp is None else dataclasses.asdict(plan.dp),
        inputs=[
            {**_described(number, item.name, item.shape, item.dtype), "kind": item.kind}
            for number, item in zip(plan.graph.inputs, plan.inputs, strict=True)
        ],
        constants=[
            _described(number, "constant", tensor.shape, _dtype(tensor))
            for number, tensor in plan.graph.constants
        ],
        outputs=[
            _described(number, item.name, _shape(values, number), _dtype(values.get(number)))
            for number, item in zip(plan.graph.outputs, plan.outputs, strict=True)
        ],
        operations=[_operation(node, values) for node in plan.graph.nodes],
        uses=dict(sorted(Counter(short_name(node.op) for node in plan.graph.nodes).items())),
        leaves=dataclasses.asdict(leaving(plan)),
        estimate=_estimate(measured, batch if _any_size(plan) else None),
    )


def _measure(plan: Plan, batch: int) -> Measured | str:
    """Shapes, memory and work; or why they are not known."""
    shapes = []
    for item in plan.inputs:
        if item.shape is None or item.dtype is None:
            return "the Plan does not say the shapes of its inputs"
        shapes.append((tuple(batch if extent is None else extent for extent in item.shape), item.dtype))
    try:
        return measure(plan.graph, shapes, plan.limits)
    except PlanError as error:
        return str(error)


def _any_size(plan: Plan) -> bool:
    return any(None in (item.shape or ()) for item in plan.inputs)


def _estimate(measured: Measured | str, batch: int | None) -> dict[str, Any]:
    if isinstance(measured, str):
        return {"refused": measured}
    return {"batch": batch, "peak_bytes": measured.cost.peak_bytes, "work": measured.cost.work}


def _described(number: int, name: str, shape: Any, dtype: str | None) -> dict[str, Any]:
    return {
        "value": str(Ref(number)),
        "name": name,
        "shape": None if shape is None else list(shape),
        "dtype": dtype,
    }


def operation_text(node: Node) -> str:
    """An operation for people: ``%12 = add(%3, %4)``."""
    results = ", ".join(str(Ref(number)) for number in node.results)
    texts = [
        _text(value) if argument.required else f"{argument.name}={_text(value)}"
        for argument, value in zip(lookup(node.op).arguments, node.args, strict=False)
    ]
    return f"{results} = {short_name(node.op)}({', '.join(texts)})"


def _operation(node: Node, values: Any) -> dict[str, Any]:
    given = zip(lookup(node.op).arguments, node.args, strict=False)
    return {
        "text": operation_text(node),
        "op": node.op,
        "arguments": {argument.name: _plain(value) for argument, value in given},
        "results": [str(Ref(number)) for number in node.results],
        "shapes": [_shape(values, number) for number in node.results] if values else [],
    }


def short_name(op: str) -> str:
    """The name that people know: ``aten.add.Tensor`` is ``add``."""
    return op.split(".")[1] if op.startswith(("aten.", "fedplan.")) else op


def _text(value: Arg) -> str:
    if isinstance(value, tuple) and not isinstance(value, Ref):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)


def _plain(value: Arg) -> Any:
    """A value that JSON has; a reference is its name."""
    if isinstance(value, Ref):
        return str(value)
    return list(map(_plain, value)) if isinstance(value, tuple) else value


def _shape(values: Any, number: int) -> list[int] | None:
    shape = getattr(values.get(number), "shape", None)
    return None if shape is None else list(shape)


def _dtype(tensor: Any) -> str | None:
    dtype = getattr(tensor, "dtype", None)
    return None if dtype is None else str(dtype).removeprefix("torch.")
