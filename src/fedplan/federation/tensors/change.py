"""How an averaged diff changes a model."""

import numpy as np

from fedplan.errors import AggregationError
from fedplan.federation.tensors.layout import Layout, Tensors, misfit
from fedplan.federation.tensors.numbers import from_float64, to_float64
from fedplan.federation.tensors.reach import reach_of
from fedplan.wire import WireTensor


def apply(model: Tensors, diff: Tensors) -> Tensors:
    """The model − the diff: the model after training, of a worker or of a cycle.

    Raises:
        AggregationError: a value of it would be infinite, or outside the dtype's range.
    """
    changed = [_difference(tensor, change) for tensor, change in zip(model, diff, strict=True)]
    reason = misfit(changed, tuple((tensor.shape, tensor.dtype) for tensor in model), reach_of(changed))
    if reason is not None:
        raise AggregationError(f"the changed model is not usable: {reason}")
    return changed


def check_average(tensors: Tensors, layout: Layout) -> Tensors:
    """The averaged diff, when it is one that may change the model.

    Raises:
        AggregationError: count, shapes or dtypes are not the model's, or a value is not finite.
    """
    reason = misfit(tensors, layout, reach_of(tensors))
    if reason is not None:
        raise AggregationError(f"the average does not fit the model: {reason}")
    return tensors


def _difference(tensor: WireTensor, change: WireTensor) -> WireTensor:
    if tensor.dtype in ("float32", "float64"):  # rounded once from the exact difference, as through float64
        with np.errstate(over="ignore"):
            return WireTensor(np.asarray(tensor.array - change.array), tensor.dtype)
    return from_float64(to_float64(tensor) - to_float64(change), tensor.dtype)
