"""Convolutions of every kind, and their gradients, are the same in tfjs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.plan.variants.tfjs.agreement import agrees, gradients

EXTENTS = {1: (9,), 2: (8, 9), 3: (5, 6, 6)}
SIZES = {1: (3,), 2: (3, 2), 3: (2, 3, 2)}

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}

Options = dict[str, int | tuple[int, ...]]

KINDS: list[Options] = [
    {},
    {"padding": 1},
    {"stride": 2},
    {"dilation": 2},
    {"stride": 2, "padding": 2, "dilation": 2},
    {"groups": 2},
    {"groups": 2, "stride": 2, "padding": 1},
    {"groups": 4},
    {"groups": 4, "padding": 1, "stride": 2},
]


TRANSPOSED_KINDS: list[Options] = [
    {},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"dilation": 2, "padding": 3},
    {"stride": 2, "groups": 2},
    {"stride": 3, "groups": 4, "padding": 1},
]

Layer = tuple[Callable[..., Tensor], tuple[Tensor, Tensor, Tensor]]


def convolution(rank: int, options: Options) -> Layer:
    """A convolution, and examples of its pictures, its weight and its bias."""
    groups, convolve = options.get("groups", 1), CONVOLUTIONS[rank]
    assert isinstance(groups, int)
    weight, bias = torch.randn(8, 4 // groups, *SIZES[rank]), torch.randn(8)
    return _layer(lambda x, w, b: convolve(x, w, b, **options), rank, weight, bias)


def transposed(rank: int, options: Options) -> Layer:
    """A transposed convolution with its examples."""
    groups, convolve = options.get("groups", 1), TRANSPOSED[rank]
    assert isinstance(groups, int)
    weight, bias = torch.randn(4, 2, *SIZES[rank]), torch.randn(2 * groups)
    return _layer(lambda x, w, b: convolve(x, w, b, **options), rank, weight, bias)


def _layer(layer: Callable[..., Tensor], rank: int, weight: Tensor, bias: Tensor) -> Layer:
    pictures = torch.zeros(2, 4, *EXTENTS[rank])
    return gradients(layer), (pictures, weight.requires_grad_(), bias.requires_grad_())  # type: ignore[return-value]


HUNDREDS = 1e-4
"""How near sums of some hundred numbers come."""


@pytest.mark.some(12)
@pytest.mark.parametrize("rank", CONVOLUTIONS)
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_convolution_and_its_gradients(rank: int, options: Options) -> None:
    function, examples = convolution(rank, options)
    agrees(function, *examples, tolerance=HUNDREDS)


@pytest.mark.parametrize(
    "options", [{"stride": (2, 3), "padding": (1, 2)}, {"dilation": (1, 2), "padding": 2}], ids=str
)
def test_one_whose_axes_differ(options: Options) -> None:
    function, examples = convolution(2, options)
    agrees(function, *examples, tolerance=HUNDREDS)


def test_one_kernel_for_each_channel() -> None:
    weight = torch.randn(4, 1, 3, 2).requires_grad_()
    agrees(
        gradients(lambda x, w: F.conv2d(x, w, groups=4)), torch.zeros(2, 4, 8, 9), weight, tolerance=HUNDREDS
    )


@pytest.mark.some(12)
@pytest.mark.parametrize("rank", TRANSPOSED)
@pytest.mark.parametrize("options", TRANSPOSED_KINDS, ids=str)
def test_a_transposed_convolution_and_its_gradients(rank: int, options: Options) -> None:
    function, examples = transposed(rank, options)
    agrees(function, *examples, tolerance=HUNDREDS)
