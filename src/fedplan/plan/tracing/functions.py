"""PyTorch's functions as a Plan has them, while a step is traced."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

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


class _Functions(TorchFunctionMode):
    """Functions of PyTorch as a Plan has them. While it looks on, layers take no kernels for inference."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return FUNCTIONS.get(func, func)(*args, **(kwargs or {}))
