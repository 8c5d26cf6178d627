"""Convolutions that are said with simpler ones compute what PyTorch's own do."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fedplan.plan.variants.expansions.convolutions import convolution, convolution_backward

_aten = torch.ops.aten

EXTENTS, SIZES = (9, 8, 7), (3, 2, 2)

Moves = tuple[list[int], list[int], list[int], bool, list[int], int]
"""Stride, padding, dilation, transposed, output padding and groups."""


def moves(rank: int) -> Iterator[Moves]:
    every = itertools.product((1, 2, 3), (0, 1, 3), (1, 2), ((False, 0), (True, 0), (True, 1)), (1, 2, 4))
    for stride, padding, dilation, (transposed, more), groups in every:
        if more < max(stride, dilation):
            yield [stride] * rank, [padding] * rank, [dilation] * rank, transposed, [more] * rank, groups


def drawn(rank: int, given: Moves, made: int) -> tuple[Tensor, Tensor, Tensor]:
    """A picture of four channels, kernels and a bias for as many as are made."""
    torch.manual_seed(0)
    *_, transposed, _, groups = given
    channels = (4, made // groups) if transposed else (made, 4 // groups)
    x, weight = torch.randn(2, 4, *EXTENTS[:rank]), torch.randn(*channels, *SIZES[:rank])
    return x, weight, torch.randn(made)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("made", [4, 8])
def test_what_is_left_has_no_groups_but_one_a_channel_and_is_not_transposed(rank: int, made: int) -> None:
    plain = 0
    for given in moves(rank):
        x, weight, bias = drawn(rank, given, made)
        result = convolution(x, weight, bias, *given)
        if result is NotImplemented:
            stride, _, dilation, transposed, _, groups = given
            assert not transposed
            assert groups == 1 or (groups == 4 and rank == 2)
            assert stride[0] == 1 or dilation[0] == 1
            plain += 1
        else:
            expected = _aten.convolution.default(x, weight, bias, *given)
            torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4, msg=str(given))
    assert plain


@pytest.mark.some(4)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("made", [4, 8])
def test_gradients(rank: int, made: int) -> None:
    for given in moves(rank):
        x, weight, _ = drawn(rank, given, made)
        gradient = torch.randn_like(_aten.convolution.default(x, weight, None, *given))
        arguments = (gradient, x, weight, [made], *given, [True, True, True])
        expected = _aten.convolution_backward.default(*arguments)
        for ours, theirs in zip(convolution_backward(*arguments), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3, msg=str(given))


def test_only_what_is_asked_for_is_made() -> None:
    x, weight = torch.randn(2, 4, 9), torch.randn(8, 4, 3)
    gradient = torch.randn(2, 8, 7)
    made = convolution_backward(gradient, x, weight, [8], [1], [0], [1], False, [0], 1, [False, True, False])
    assert [value is None for value in made] == [True, False, True]
