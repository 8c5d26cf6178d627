"""Convolutions of every kind, and their gradients, are the same in tfjs."""

import pytest
import torch
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


@pytest.mark.parametrize("rank", CONVOLUTIONS)
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_convolution_and_its_gradients(rank: int, options: Options) -> None:
    weight, bias = torch.randn(8, 4 // options.get("groups", 1), *SIZES[rank]), torch.randn(8)  # type: ignore[operator]
    convolve = CONVOLUTIONS[rank]
    agrees(
        gradients(lambda x, w, b: convolve(x, w, b, **options)),
        torch.zeros(2, 4, *EXTENTS[rank]),
        weight.requires_grad_(),
        bias.requires_grad_(),
        tolerance=1e-4,  # sums of some hundred numbers
    )


@pytest.mark.parametrize(
    "options",
    [{"stride": (2, 3), "padding": (1, 2)}, {"dilation": (1, 2), "padding": 2}, {"groups": 4}],
    ids=str,
)
def test_one_whose_axes_differ(options: Options) -> None:
    """With `groups`, one kernel for each channel."""
    weight = torch.randn(4, 4 // options.get("groups", 1), 3, 2).requires_grad_()  # type: ignore[operator]
    agrees(gradients(lambda x, w: F.conv2d(x, w, **options)), torch.zeros(2, 4, 8, 9), weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("rank", TRANSPOSED)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1, "output_padding": 1},
        {"dilation": 2, "padding": 3},
        {"stride": 2, "groups": 2},
        {"stride": 3, "groups": 4, "padding": 1},
    ],
    ids=str,
)
def test_a_transposed_convolution_and_its_gradients(rank: int, options: Options) -> None:
    weight, bias = torch.randn(4, 2, *SIZES[rank]), torch.randn(2 * options.get("groups", 1))  # type: ignore[operator]
    convolve = TRANSPOSED[rank]
    agrees(
        gradients(lambda x, w, b: convolve(x, w, b, **options)),
        torch.zeros(2, 4, *EXTENTS[rank]),
        weight.requires_grad_(),
        bias.requires_grad_(),
        tolerance=1e-4,  # sums of some hundred numbers
    )
