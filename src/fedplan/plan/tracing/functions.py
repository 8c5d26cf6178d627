"""PyTorch's functions as a Plan has them, while a step is traced."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

from fedplan.errors import TraceError
from fedplan.plan.recurrence.interception import RecurrentLayers
from fedplan.plan.tracing.decompositions import FUNCTIONS


@contextlib.contextmanager
def own_functions() -> Iterator[None]:
    """PyTorch's functions as a Plan has them, also in layers that are computed again for their gradient.

    A `TorchFunctionMode` sees the call that computes gradients, but no call inside it, so the modes are
    entered there again.
    """
    autograd: Any = torch.autograd
    engine = autograd._engine_run_backward

    def run(*args: Any, **options: Any) -> Any:
        with _Functions(), RecurrentLayers():
            return engine(*args, **options)

    autograd._engine_run_backward = run
    try:
        with _Functions(), RecurrentLayers():
            yield
    finally:
        autograd._engine_run_backward = engine


_SET_DATA: Any = torch.Tensor.data.__set__  # type: ignore[attr-defined]  # a property
"""What `tensor.data = value` comes to."""


class _Functions(TorchFunctionMode):
    """Functions of PyTorch as a Plan has them. While it looks on, layers take no kernels for inference."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func == _SET_DATA and any(isinstance(given, FakeTensor) for given in args):
            raise TraceError(
                "the step assigns to a tensor's `.data`, which PyTorch's tracer does not see: write to it in "
                "place, as in `tensor.data.copy_(value)`"
            )
        return FUNCTIONS.get(func, func)(*args, **(kwargs or {}))
