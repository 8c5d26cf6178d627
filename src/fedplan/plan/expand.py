"""Saying a graph with fewer kinds of operations, by PyTorch's own decompositions.

A translator needs a rule only for what cannot be said with simpler operations: the gradient of a layer norm,
for one, becomes products and sums here, and nothing of it is written by hand.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch.fx import traceback as fx_traceback

from fedplan.errors import PlanFormatError
from fedplan.plan.interpreter import fetch
from fedplan.plan.ir import Graph, Node, bind
from fedplan.plan.lower import SIZES, lower
from fedplan.plan.ops import DTYPES, OPS, lookup, overload
from fedplan.plan.recurrence import reference
from fedplan.plan.recurrence.schema import RECURRENCES
from fedplan.plan.rewrite import SIMPLIFY, apply, prune
from fedplan.plan.signature import PlanInput
from fedplan.plan.symbolic import retrace

_EXAMPLE_ROWS = 7
"""Extent of dimensions of any size while a graph is recorded; it stays a symbol."""


@dataclasses.dataclass(frozen=True, slots=True)
class Expanded:
    """A graph in fewer kinds of operations.

    Attributes:
        graph: computes the same as the original.
        numbers: for values of the original that are values of `graph` too, their number there.
    """

    graph: Graph
    numbers: Mapping[int, int]


def expand(graph: Graph, inputs: Sequence[PlanInput], kept: Collection[str]) -> Expanded:
    """Decomposes every operation that is not kept, as far as PyTorch has a decomposition for it.

    Args:
        graph: a verified graph.
        inputs: shapes and dtypes of its inputs; dimensions of any size keep it.
        kept: names of operations that stay as they are.

    Raises:
        PlanFormatError: an input does not say its shape or dtype.
        UnsupportedOpError: a decomposition uses an operation outside the op table.
        TraceError: the graph cannot be run on shapes.
    """
    constants = [value for _, value in graph.constants]
    examples = [*(_example(item) for item in inputs), *constants]
    free = [*map(_any_rows, inputs), *(False for _ in constants)]
    numbers: list[int] = []

    def run(*values: torch.Tensor) -> list[torch.Tensor]:
        """Returns every tensor of the graph, and notes their numbers."""
        found = _tensors(graph, values)
        numbers[:] = found
        return list(found.values())

    recorded = apply(lower(retrace(run, examples, free, _decompositions(kept)), constants), SIMPLIFY)
    known = dict(zip(numbers, recorded.outputs, strict=True))
    expanded = prune(dataclasses.replace(recorded, outputs=tuple(known[o] for o in graph.outputs)))
    defined = {*expanded.defined(), *(number for node in expanded.nodes for number in node.results)}
    return Expanded(expanded, {old: new for old, new in known.items() if new in defined})


def _example(item: PlanInput) -> torch.Tensor:
    if item.shape is None or item.dtype is None:
        raise PlanFormatError(
            f"the Plan does not say the shape and dtype of its input '{item.name}'; it cannot be translated"
        )
    return torch.empty(
        [_EXAMPLE_ROWS if extent is None else extent for extent in item.shape], dtype=DTYPES[item.dtype]
    )


def _any_rows(item: PlanInput) -> bool:
    return item.shape is not None and item.shape[:1] == (None,)


def _tensors(graph: Graph, given: Sequence[torch.Tensor]) -> dict[int, torch.Tensor]:
    """Every tensor of a run on inputs and constants. Guards are not asked: sizes are symbols here."""
    first = (*graph.inputs, *(number for number, _ in graph.constants))
    values: dict[int, Any] = dict(zip(first, given, strict=True))
    for node in graph.nodes:
        if node.source is not None:
            file, _, line = node.source.rpartition(":")
            fx_traceback.set_stack_trace([f'File "{file}", line {line}'])
        positional, keywords = bind(node, torch.device("cpu"))
        options = {name: fetch(arg, values) for name, arg in keywords.items()}
        made = _function(node)(*(fetch(arg, values) for arg in positional), **options)
        values.update(zip(node.results, made if isinstance(made, tuple | list) else (made,), strict=True))
    return {number: value for number, value in values.items() if isinstance(value, torch.Tensor)}


_SIZE_FUNCTIONS = {name: function for function, name in SIZES.items()}


def _function(node: Node) -> Callable[..., Any]:
    return _SIZE_FUNCTIONS.get(node.op) or lookup(node.op).call


def _decompositions(kept: Collection[str]) -> Mapping[Any, Callable[..., Any]]:
    names = [name for name in OPS if name.startswith("aten.") and "sym_" not in name and name not in kept]
    known = {overload(name): decomposition_table.get(overload(name)) for name in names}
    return {**{op: rule for op, rule in known.items() if rule is not None}, **_unrolled(kept), **_OWN}


def _unrolled(kept: Collection[str]) -> dict[Any, Callable[..., Any]]:
    """Recurrences step by step."""
    return {
        overload(r.operator): getattr(reference, r.name)
        for r in RECURRENCES.values()
        if r.operator not in kept
    }


def _variance_and_mean(
    value: torch.Tensor,
    dim: list[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    return value.var(dim, correction=correction, keepdim=keepdim), value.mean(dim, keepdim=keepdim)


def _new_full(value: torch.Tensor, size: list[int], fill: float, **options: Any) -> torch.Tensor:
    options.setdefault("dtype", value.dtype)
    return torch.full(size, fill, **options)


def _as_strided(value: torch.Tensor, size: list[int], stride: list[int], offset: int | None = None) -> Any:
    """Elements that lie side by side, in order, under another shape; other uses stay as they are."""
    step = 1
    for extent, given in zip(reversed(size), reversed(stride), strict=True):
        if given != step:
            return NotImplemented
        step = step * extent
    return value.reshape(size) if value.is_contiguous() and not offset else NotImplemented


_OWN: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.as_strided.default: _as_strided,
    torch.ops.aten.var_mean.correction: _variance_and_mean,
    torch.ops.aten.new_full.default: _new_full,
}
"""Operations that PyTorch's decompositions make and the op table says with others."""
