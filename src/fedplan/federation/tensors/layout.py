"""The layout of a model: how many tensors, of which shapes and dtypes. Diffs and averages must fit it."""

import math
from collections.abc import Sequence

from fedplan.errors import AggregationError
from fedplan.federation.tensors.numbers import LARGEST
from fedplan.wire import WireTensor

Tensors = Sequence[WireTensor]
"""The tensors of a diff or of a model, in the model's order."""

TensorLayout = tuple[tuple[int, ...], str]
"""Shape and dtype name of one tensor."""

Layout = tuple[TensorLayout, ...]
"""Shape and dtype name of each tensor of a model, in order."""

AVERAGED_DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64")
"""Dtypes that a model may have. A difference of bools or of unsigned numbers has no meaning that could be
averaged, and quantized tensors have no common scale."""


_ELEMENT_BYTES = 12  # a field number and the longest varint
_TENSOR_BYTES = 4096
_STATE_BYTES = 64 * 1024


def layout_of(tensors: Sequence[WireTensor]) -> Layout:
    """The layout of a model.

    Raises:
        AggregationError: there is no tensor, or one has a dtype that cannot be averaged.
    """
    if not tensors:
        raise AggregationError("a model without tensors cannot be trained")
    for index, tensor in enumerate(tensors):
        if tensor.dtype not in AVERAGED_DTYPES:
            raise AggregationError(
                f"tensor {index} has the dtype {tensor.dtype}, whose differences cannot be averaged; "
                f"use one of {', '.join(AVERAGED_DTYPES)}"
            )
    return tuple((tensor.shape, tensor.dtype) for tensor in tensors)


def largest_diff(layout: Layout) -> int:
    """Bytes that no diff of a model exceeds, however its sender writes numbers, ids and tags.

    What a worker makes the grid read and keep is bounded by the model, not by the largest message.
    """
    return sum(_TENSOR_BYTES + _ELEMENT_BYTES * math.prod(shape) for shape, _ in layout) + _STATE_BYTES


def misfit(tensors: Sequence[WireTensor], layout: Layout, reach: Sequence[float]) -> str | None:
    """Why tensors do not fit a model, or None when they do.

    They fit when count, shapes and dtypes are the model's and every value is finite, also once many
    are added up.

    Args:
        tensors: the tensors.
        layout: the model's.
        reach: the tensors' `reach_of`.
    """
    if len(tensors) != len(layout):
        return f"it holds {len(tensors)} tensors, the model {len(layout)}"
    for index, (tensor, (shape, dtype)) in enumerate(zip(tensors, layout, strict=True)):
        if tensor.shape != shape:
            return f"tensor {index} has the shape {list(tensor.shape)}, the model's has {list(shape)}"
        if tensor.dtype != dtype:
            return f"tensor {index} is of {tensor.dtype}, the model's of {dtype}"
        if not math.isfinite(reach[index]):
            return (
                f"tensor {index} holds NaN or an infinite value. It comes from such values in the data, or "
                "from a learning rate that is too large"
            )
        if reach[index] >= LARGEST:
            return f"tensor {index} holds a value beyond {LARGEST:.0e}, of which sums could become infinite"
    return None
