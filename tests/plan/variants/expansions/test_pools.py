"""Pools that are said with slices and sums compute what PyTorch's own do."""

import itertools

import pytest
import torch

from fedplan.plan.variants.expansions import pools

_aten = torch.ops.aten

WINDOWS = list(itertools.product(((2, 2), (3, 2), (3, 3)), ((), (1, 2), (2, 2), (3, 3)), ((0, 0), (1, 1))))


@pytest.mark.parametrize("shape", [(2, 3, 7, 8), (3, 7, 8)], ids=["a batch", "one picture"])
def test_averages_and_their_gradient(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for window, rounded_up, padding_counts, divisor in itertools.product(
        WINDOWS, (False, True), (False, True), (None, 5)
    ):
        x, pool = torch.randn(shape), (*window, rounded_up, padding_counts, divisor)
        expected = _aten.avg_pool2d.default(x, *pool)
        made = pools.avg_pool2d(x, *pool)
        if made is not NotImplemented:
            torch.testing.assert_close(made, expected, msg=str(pool))
        slope = torch.randn_like(expected)
        torch.testing.assert_close(
            pools.avg_pool_backward(slope, x, *pool),
            _aten.avg_pool2d_backward.default(slope, x, *pool),
            msg=str(pool),
        )


def test_whole_windows_are_left_as_they_are() -> None:
    assert pools.avg_pool2d(torch.randn(2, 3, 6, 6), (2, 2)) is NotImplemented
    assert pools.avg_pool2d(torch.randn(2, 3, 7, 7), (2, 2), (), (0, 0), False, False) is NotImplemented
    assert pools.max_pool2d_with_indices(torch.randn(2, 3, 6, 6), (2, 2)) is NotImplemented


@pytest.mark.parametrize("shape", [(2, 3, 7, 8), (3, 7, 8)], ids=["a batch", "one picture"])
def test_the_gradient_of_maxima_goes_to_the_first_of_equal_ones(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for (size, stride, padding), dilation, rounded_up in itertools.product(
        WINDOWS, ((1, 1), (2, 1)), (False, True)
    ):
        x, pool = torch.randint(0, 3, shape).float(), (size, stride or size, padding, dilation, rounded_up)
        highest, indices = _aten.max_pool2d_with_indices.default(x, *pool)
        slope = torch.randn_like(highest)
        torch.testing.assert_close(
            pools.max_pool_with_indices_backward(slope, x, *pool, indices),
            _aten.max_pool2d_with_indices_backward.default(slope, x, *pool, indices),
            msg=str(pool),
        )


def test_the_maxima_of_one_picture_are_those_of_a_batch_of_one() -> None:
    x = torch.randn(3, 7, 8)
    for ours, theirs in zip(
        pools.max_pool2d_with_indices(x, (2, 2)),
        _aten.max_pool2d_with_indices.default(x, (2, 2)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("pieces", [(2, 3), (7, 8), (1, 1), (3, 5), (9, 10), (7, 4)])
@pytest.mark.parametrize("shape", [(2, 3, 7, 8), (3, 7, 8)], ids=["a batch", "one picture"])
def test_pieces_even_or_not(shape: tuple[int, ...], pieces: tuple[int, int]) -> None:
    x = torch.randn(shape)
    expected = _aten._adaptive_avg_pool2d.default(x, pieces)
    torch.testing.assert_close(pools.adaptive_avg_pool(x, pieces), expected)
    slope = torch.randn_like(expected)
    torch.testing.assert_close(
        pools.adaptive_avg_pool2d_backward(slope, x),
        _aten._adaptive_avg_pool2d_backward.default(slope, x),
    )


def test_lines_are_pictures_one_element_high() -> None:
    x = torch.randn(2, 3, 11)
    torch.testing.assert_close(pools.adaptive_avg_pool1d(x, [4]), _aten.adaptive_avg_pool1d.default(x, [4]))
    for options in (([3],), ([3], [2], [1]), ([4], [3], [1], True, False)):
        torch.testing.assert_close(pools.avg_pool1d(x, *options), _aten.avg_pool1d.default(x, *options))
