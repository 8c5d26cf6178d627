"""Server optimizers: how an averaged diff changes the model."""

import dataclasses
from collections.abc import Callable

import numpy as np

from fedplan.errors import AggregationError
from fedplan.federation.layout import Layout, misfit
from fedplan.federation.numbers import from_float64, to_float64
from fedplan.federation.rule import Accumulated, Tensors
from fedplan.wire import WireTensor


@dataclasses.dataclass(frozen=True, slots=True)
class ServerOptimizer:
    """How the grid applies an averaged diff: a record of functions over an explicit state.

    Attributes:
        name: for logs and status.
        start: (layout) → the state before the first cycle.
        step: (model, averaged diff, state) → (new model, new state).
    """

    name: str
    start: Callable[[Layout], Accumulated]
    step: Callable[[Tensors, Tensors, Accumulated], tuple[Tensors, Accumulated]]


def plain() -> ServerOptimizer:
    """new = model − averaged diff, as every grid of this protocol does. Keeps no state."""
    return ServerOptimizer("plain", lambda _layout: Accumulated(0, ()), _subtract)


def _subtract(model: Tensors, diff: Tensors, state: Accumulated) -> tuple[Tensors, Accumulated]:
    return apply(model, diff), Accumulated(state.count + 1, state.tensors)


def apply(model: Tensors, diff: Tensors) -> Tensors:
    """The model − the diff: the model after training, of a worker or of a cycle.

    Raises:
        AggregationError: a value of it would be infinite, or outside the dtype's range.
    """
    changed = [_difference(tensor, change) for tensor, change in zip(model, diff, strict=True)]
    reason = misfit(changed, tuple((tensor.shape, tensor.dtype) for tensor in model))
    if reason is not None:
        raise AggregationError(f"the changed model is not usable: {reason}")
    return changed


def _difference(tensor: WireTensor, change: WireTensor) -> WireTensor:
    if tensor.dtype in ("float32", "float64"):  # rounded once from the exact difference, as through float64
        with np.errstate(over="ignore"):
            return WireTensor(np.asarray(tensor.array - change.array), tensor.dtype)
    return from_float64(to_float64(tensor) - to_float64(change), tensor.dtype)
