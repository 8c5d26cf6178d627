"""Random inputs of a Plan whose variants fill them: old clients know of no such inputs.

A variant leaves them out of its inputs, and draws the numbers by what its runtime has. Here are the numbers
with which it is tried: those that TorchScript draws under a seed.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fedplan.errors import PlanFormatError
from fedplan.plan.ir.graph import Graph
from fedplan.plan.ops import DTYPES
from fedplan.plan.random import NORMAL, UNIFORM
from fedplan.plan.signature import PlanInput

_FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {UNIFORM: torch.rand, NORMAL: torch.randn}


def read(graph: Graph, inputs: Sequence[PlanInput]) -> list[int]:
    """Places of the random inputs that an operation reads or the graph returns; the others are not drawn."""
    used = {number for node in graph.nodes for number in node.refs()}.union(graph.outputs)
    return [p for p, item in enumerate(inputs) if item.is_random and graph.inputs[p] in used]


def given(inputs: Sequence[PlanInput], arguments: Sequence[Tensor]) -> list[Tensor]:
    """The arguments without those of random inputs: what a variant takes."""
    return [value for value, item in zip(arguments, inputs, strict=True) if not item.is_random]


def drawn(graph: Graph, inputs: Sequence[PlanInput], arguments: Sequence[Tensor]) -> dict[int, Tensor]:
    """The arguments of random inputs, by the number of the input's value."""
    places = zip(graph.inputs, inputs, arguments, strict=True)
    return {number: value for number, item, value in places if item.is_random}


def draw(graph: Graph, inputs: Sequence[PlanInput], rows: int, seed: int) -> Mapping[int, Tensor]:
    """Arguments for the random inputs, by their places: what `torch.manual_seed(seed)` gives an archive.

    Args:
        graph: the Plan's operations.
        inputs: the Plan's inputs.
        rows: extent of dimensions of any size.
        seed: of PyTorch's generator.

    Raises:
        PlanFormatError: an input asks for a distribution that does not exist.
    """
    generator = torch.Generator().manual_seed(seed)
    wanted = read(graph, inputs)
    made = {}
    for place, item in enumerate(inputs):
        if not item.is_random:
            continue
        shape, name = item.with_rows(rows)
        dtype = DTYPES[name]
        if place not in wanted:
            made[place] = torch.zeros(shape, dtype=dtype)
            continue
        function = _FUNCTIONS[distribution(item)]
        made[place] = function(shape, generator=generator, dtype=dtype)
    return made


def distribution(item: PlanInput) -> str:
    """The name of the distribution of a random input.

    Raises:
        PlanFormatError: there is no such distribution.
    """
    name = None if item.spec is None else item.spec.name
    if name is None or name not in _FUNCTIONS:
        raise PlanFormatError(
            f"the input '{item.name}' asks for random numbers of the distribution '{name}'; there are "
            f"{', '.join(_FUNCTIONS)}"
        )
    return name
