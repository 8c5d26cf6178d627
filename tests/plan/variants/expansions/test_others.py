"""Normalisations, masks and slices that are said with arithmetic and choice."""

import pytest
import torch

from fedplan.plan.variants.expansions import indexing, normalisation, shapes

_aten = torch.ops.aten


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4), (5, 3, 4, 2)])
def test_a_frozen_batch_norm(shape: tuple[int, ...], affine: bool) -> None:
    x, mean, variance = torch.randn(shape), torch.randn(3), torch.rand(3) + 0.1
    weight, bias = (torch.randn(3), torch.randn(3)) if affine else (None, None)
    arguments = (x, weight, bias, mean, variance, 0.1, 1e-5)
    expected = _aten._native_batch_norm_legit_no_training.default(*arguments)
    for ours, theirs in zip(normalisation.batch_norm_no_training(*arguments), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("values", [torch.tensor(2.0), torch.tensor([2.0]), torch.arange(4.0)], ids=str)
@pytest.mark.parametrize("accumulate", [False, True])
def test_a_mask_is_a_choice(values: torch.Tensor, accumulate: bool) -> None:
    x, mask = torch.randn(5, 3, 4), torch.rand(5, 3) > 0.5
    made = indexing.index_put(x, [mask], values, accumulate)
    torch.testing.assert_close(made, _aten.index_put.default(x, [mask], values, accumulate))


def test_values_for_each_true_element_and_numbers_are_left_as_they_are() -> None:
    x, mask = torch.randn(5, 3), torch.tensor([True, False, True, False, False])
    assert indexing.index_put(x, [mask], torch.randn(2, 3)) is NotImplemented
    assert indexing.index_put(x, [torch.tensor([0, 2])], torch.randn(2, 3)) is NotImplemented
    assert indexing.index_put(x, [None, torch.tensor([0, 2])], torch.tensor(1.0)) is NotImplemented


@pytest.mark.parametrize(
    ("dim", "start", "end", "step"), [(1, 0, 9, 2), (1, 1, 7, 3), (2, None, None, 4), (-1, -3, 99, 2)]
)
def test_every_nth_element_is_written(dim: int, start: int | None, end: int | None, step: int) -> None:
    x = torch.randn(2, 9, 5)
    source = torch.randn_like(_aten.slice.Tensor(x, dim, start, end, step))
    made = shapes.slice_scatter(x, source, dim, start, end, step)
    torch.testing.assert_close(made, _aten.slice_scatter.default(x, source, dim, start, end, step))
    assert shapes.slice_scatter(x, x, 1) is NotImplemented
