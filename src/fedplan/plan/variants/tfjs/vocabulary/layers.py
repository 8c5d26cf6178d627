"""Functions of matrices and pictures."""

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as F

from fedplan.plan.variants.tfjs.vocabulary.values import Value, as_tensor, matched


def matmul(left: Value, right: Value, turn_left: bool = False, turn_right: bool = False) -> Tensor:
    """Of matrices, or of two stacks of as many."""
    a, b = matched(left, right)
    if a.dim() < 2 or a.dim() != b.dim() or a.shape[:-2] != b.shape[:-2]:
        raise ValueError(f"matrices of the shapes {tuple(a.shape)} and {tuple(b.shape)}")
    return (a.mT if turn_left else a) @ (b.mT if turn_right else b)


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Of vectors and matrices."""
    if left.dim() not in {1, 2} or right.dim() not in {1, 2}:
        raise ValueError("tfjs has dot for vectors and matrices")
    return left @ right


def softmax(value: Value, dim: int = -1) -> Tensor:
    """Along the last dimension."""
    tensor = as_tensor(value)
    if dim % tensor.dim() != tensor.dim() - 1:
        raise ValueError("tfjs has softmax along the last dimension only")
    return tensor.softmax(-1)


def norm(value: Value, kind: str = "euclidean") -> Tensor:
    """Of all elements."""
    if kind != "euclidean":
        raise ValueError(f"only the euclidean norm is modelled here, not '{kind}'")
    tensor = as_tensor(value)
    return tensor.square().sum().sqrt()


def _each(numbers: int | Sequence[int], rank: int) -> list[int]:
    return [numbers] * rank if isinstance(numbers, int) else list(numbers)


def _inward(value: Value, rank: int) -> Tensor:
    tensor = as_tensor(value)
    if tensor.dim() != rank + 2:
        raise ValueError(f"a picture of {tensor.dim()} dimensions where {rank + 2} are needed")
    return tensor.permute(0, rank + 1, *range(1, rank + 1))


def _outward(value: Tensor) -> Tensor:
    return value.permute(0, *range(2, value.dim()), 1)


_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_LAYOUTS = ("NWC", "NHWC", "NDHWC")


def convolution(rank: int, by_channel: bool = False) -> Callable[..., Tensor]:
    """A convolution of pictures with so many extents; `by_channel`, each channel has kernels of its own."""

    def call(
        value: Value,
        weight: Tensor,
        strides: int | Sequence[int],
        pad: str | int,
        layout: str = _LAYOUTS[rank - 1],
        dilations: int | Sequence[int] = 1,
    ) -> Tensor:
        stride, dilation = _each(strides, rank), _each(dilations, rank)
        if layout != _LAYOUTS[rank - 1] or pad != "valid":
            raise ValueError("only pictures with the channels last and 'valid' padding are modelled here")
        if max(stride) > 1 and max(dilation) > 1:
            raise ValueError("tfjs has no convolution with both a stride and a dilation")
        picture, channels = _inward(value, rank), weight.shape[rank]
        if picture.shape[1] != channels:
            raise ValueError(f"a kernel for {channels} channels, not for {picture.shape[1]}")
        if by_channel:  # (*sizes, channels, kernels each)
            kernel = weight.permute(rank, rank + 1, *range(rank)).flatten(0, 1).unsqueeze(1)
            return _outward(_CONVOLUTIONS[rank - 1](picture, kernel, None, stride, 0, dilation, channels))
        kernel = weight.permute(rank + 1, rank, *range(rank))
        return _outward(_CONVOLUTIONS[rank - 1](picture, kernel, None, stride, 0, dilation))

    return call


def pool(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A pool of pictures with two extents."""

    def call(value: Value, size: int | Sequence[int], strides: int | Sequence[int], pad: str | int) -> Tensor:
        if pad != "valid":
            raise ValueError("only 'valid' padding is modelled here")
        return _outward(function(_inward(value, 2), _each(size, 2), _each(strides, 2)))

    return call
