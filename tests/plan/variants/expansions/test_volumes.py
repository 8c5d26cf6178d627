"""Pools of volumes and maxima of pieces compute what PyTorch's own do."""

import itertools

import pytest
import torch

from fedplan.plan.variants.expansions import pools, volumes

_aten = torch.ops.aten

WINDOWS = [
    ((2, 2, 2), (2, 2, 2), (0, 0, 0)),
    ((2, 3, 2), (1, 2, 3), (1, 1, 0)),
    ((3, 3, 3), (2, 1, 2), (1, 0, 1)),
    ((1, 2, 3), (1, 1, 2), (0, 1, 1)),
]
VOLUMES = pytest.mark.parametrize("shape", [(2, 3, 7, 6, 8), (3, 7, 6, 8)], ids=["a batch", "one volume"])


@VOLUMES
def test_averages_and_their_gradient(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for window, rounded_up, padding_counts, divisor in itertools.product(
        WINDOWS, (False, True), (False, True), (None, 5)
    ):
        x, pool = torch.randn(shape), (*window, rounded_up, padding_counts, divisor)
        expected = _aten.avg_pool3d.default(x, *pool)
        torch.testing.assert_close(volumes.avg_pool3d(x, *pool), expected, msg=str(pool))
        slope = torch.randn_like(expected)
        torch.testing.assert_close(
            pools.avg_pool_backward(slope, x, *pool),
            _aten.avg_pool3d_backward.default(slope, x, *pool),
            msg=str(pool),
        )


@VOLUMES
def test_maxima_are_the_first_of_equal_ones(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for (size, stride, padding), dilation, rounded_up in itertools.product(
        WINDOWS, ((1, 1, 1), (2, 1, 2)), (False, True)
    ):
        x, pool = torch.randint(0, 3, shape).float(), (size, stride, padding, dilation, rounded_up)
        expected = _aten.max_pool3d_with_indices.default(x, *pool)
        for ours, theirs in zip(volumes.max_pool3d_with_indices(x, *pool), expected, strict=True):
            torch.testing.assert_close(ours, theirs, msg=str(pool))
        slope = torch.randn_like(expected[0])
        torch.testing.assert_close(
            pools.max_pool_with_indices_backward(slope, x, *pool, expected[1]),
            _aten.max_pool3d_with_indices_backward.default(slope, x, *pool, expected[1]),
            msg=str(pool),
        )


@pytest.mark.parametrize("pieces", [(1, 1, 1), (7, 3, 4), (3, 4, 5), (2, 6, 3)])
@VOLUMES
def test_averages_of_pieces(shape: tuple[int, ...], pieces: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    expected = _aten._adaptive_avg_pool3d.default(x, pieces)
    torch.testing.assert_close(pools.adaptive_avg_pool(x, pieces), expected)
    slope = torch.randn_like(expected)
    torch.testing.assert_close(
        pools.adaptive_avg_pool3d_backward(slope, x),
        _aten._adaptive_avg_pool3d_backward.default(slope, x),
    )


@pytest.mark.parametrize("pieces", [(1, 1), (3, 4), (4, 5), (7, 3), (1, 1, 1), (2, 3, 4), (3, 4, 5)])
@pytest.mark.parametrize("batch", [(2, 3), (3,)], ids=["a batch", "one picture"])
def test_maxima_of_pieces(batch: tuple[int, ...], pieces: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 5, (*batch, *(7, 6, 8)[: len(pieces)])).float()
    pool, backward, ours = (
        (_aten.adaptive_max_pool2d, _aten.adaptive_max_pool2d_backward, volumes.adaptive_max_pool2d_backward)
        if len(pieces) == 2
        else (
            _aten.adaptive_max_pool3d,
            _aten.adaptive_max_pool3d_backward,
            volumes.adaptive_max_pool3d_backward,
        )
    )
    expected = pool.default(x, pieces)
    for made, theirs in zip(volumes.adaptive_max_pool(x, pieces), expected, strict=True):
        torch.testing.assert_close(made, theirs)
    slope = torch.randn_like(expected[0])
    torch.testing.assert_close(ours(slope, x, expected[1]), backward.default(slope, x, expected[1]))
