"""Rows that an executor may put in place of others: a layout, and quicker ways to a matrix product.

No Plan can hold them.
"""

from collections.abc import Callable

import torch

from fedplan.plan.ops.op import Argument, Kind, Op


def _channels_last(picture: torch.Tensor) -> torch.Tensor:
    if picture.shape[1] == 1:  # in both layouts at once; the strides then say which one is meant
        count, _, height, width = picture.shape
        return picture.reshape(count, height, width, 1).permute(0, 3, 1, 2)
    return picture.contiguous(memory_format=torch.channels_last)


ONEDNN_FROM = 2**21
"""Multiplications of a product from which on oneDNN is quicker than BLAS, in spite of its 10 µs a call."""


def onednn_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`aten.linear` by oneDNN, of float32 on a CPU."""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return onednn_linear(a, b.t(), None)


SIDE_BY_SIDE = "executor.contiguous.default"
"""A tensor as it is, or a copy, with its elements in order in memory."""

CHANNELS_LAST = "executor.channels_last.default"
"""A picture as it is, or a copy, with the channels of each pixel side by side in memory."""

ONEDNN_LINEAR = "executor.onednn_linear.default"
"""`aten.linear` by oneDNN."""

ONEDNN_PRODUCT = "executor.onednn_product.default"
"""`aten.mm` by oneDNN."""


def _row(name: str, kind: Kind, implementation: Callable[..., torch.Tensor], *arguments: str) -> Op:
    signature = tuple(Argument(argument, "Tensor") for argument in arguments)
    return Op(name, kind, torchscript=None, implementation=implementation, signature=signature)


ROWS = (
    _row(SIDE_BY_SIDE, Kind.VIEW, torch.Tensor.contiguous, "self"),
    _row(CHANNELS_LAST, Kind.VIEW, _channels_last, "picture"),
    _row(ONEDNN_LINEAR, Kind.MATMUL, onednn_linear, "x", "weight", "bias"),
    _row(ONEDNN_PRODUCT, Kind.MATMUL, _product, "a", "b"),
)
"""All of them."""


def has_onednn() -> bool:
    """Whether PyTorch can multiply matrices of float32 with oneDNN, as its own compiler does on a CPU."""
    enabled = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(enabled) and hasattr(torch.ops.mkldnn, "_linear_pointwise")
