"""What an executor may run besides PyTorch's operators: a layout, and a quicker way to a matrix product."""

import dataclasses
from collections.abc import Callable, Mapping

import torch


@dataclasses.dataclass(frozen=True, slots=True)
class Kernel:
    """A function of tensors.

    Attributes:
        call: the function.
        arguments: names of its arguments.
        view: whether its result may be its argument.
    """

    call: Callable[..., torch.Tensor]
    arguments: tuple[str, ...]
    view: bool = False


def _channels_last(picture: torch.Tensor) -> torch.Tensor:
    if picture.shape[1] == 1:  # in both layouts at once; the strides then say which one is meant
        count, _, height, width = picture.shape
        return picture.reshape(count, height, width, 1).permute(0, 3, 1, 2)
    return picture.contiguous(memory_format=torch.channels_last)


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return _linear(a, b.t(), None)


SIDE_BY_SIDE = "executor.contiguous.default"
"""A tensor as it is, or a copy, with its elements in order in memory."""

CHANNELS_LAST = "executor.channels_last.default"
"""A picture as it is, or a copy, with the channels of each pixel side by side in memory."""

ONEDNN_LINEAR = "executor.onednn_linear.default"
"""`aten.linear` by oneDNN."""

ONEDNN_PRODUCT = "executor.onednn_product.default"
"""`aten.mm` by oneDNN."""

KERNELS: Mapping[str, Kernel] = {
    SIDE_BY_SIDE: Kernel(torch.Tensor.contiguous, ("self",), view=True),
    CHANNELS_LAST: Kernel(_channels_last, ("picture",), view=True),
    ONEDNN_LINEAR: Kernel(_linear, ("x", "weight", "bias")),
    ONEDNN_PRODUCT: Kernel(_product, ("a", "b")),
}
"""All of them, by name. No Plan can hold them."""


def has_onednn() -> bool:
    """Whether PyTorch can multiply matrices of float32 with oneDNN, as its own compiler does on a CPU."""
    enabled = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(enabled) and hasattr(torch.ops.mkldnn, "_linear_pointwise")
