"""A graph's shapes for a small and for a large batch: what differs follows the batch size."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedplan.errors import PlanExecutionError
from fedplan.plan.ir.graph import Graph
from fedplan.plan.run.check import measure
from fedplan.plan.signature import PlanInput, leader

_SMALL, _LARGE = 6, 10

Values = Mapping[int, Any]
"""By their numbers: tensors on the meta device, sizes as numbers."""


def measured(graph: Graph, inputs: Sequence[PlanInput]) -> tuple[Values, Values]:
    """Every value for a small and for a large batch.

    Inputs that may differ in their number of rows do so here: what has the rows of one is then not taken for
    what has those of another. Random inputs have the rows that a worker draws for them.

    Raises:
        PlanFormatError: an input does not say its shape or dtype.
        PlanError: the graph cannot be run on shapes.
    """
    try:
        return _values(graph, inputs, _SMALL, 1), _values(graph, inputs, _LARGE, 1)
    except PlanExecutionError:
        return _values(graph, inputs, _SMALL, 0), _values(graph, inputs, _LARGE, 0)


def _values(graph: Graph, inputs: Sequence[PlanInput], rows: int, apart: int) -> Values:
    drawn = leader(inputs) or 0
    places = [drawn if item.is_random else place for place, item in enumerate(inputs)]
    shapes = [item.with_rows(rows + apart * place) for item, place in zip(inputs, places, strict=True)]
    return measure(graph, shapes).values
