"""Operations said with others: what PyTorch has no decomposition for, or none that a variant can use.

Each is a plain function of tensors, in PyTorch's own words, with the arguments of the operator that it stands
for. A variant names the operations that it has (`fedplan.plan.variants.expand`); these functions and
PyTorch's decompositions stand in the place of the others. A function that leaves some calls of its operator
as they are answers NotImplemented for them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fedplan.plan.recurrence import reference
from fedplan.plan.recurrence.schema import RECURRENCES
from fedplan.plan.variants.expansions import (
    convolutions,
    indexing,
    normalisation,
    pools,
    sampling,
    shapes,
    volumes,
)

Expansion = Callable[..., Any]

EXPANSIONS: Mapping[str, Expansion] = {
    "aten.convolution_backward.default": convolutions.convolution_backward,
    "aten.max_pool2d_with_indices_backward.default": pools.max_pool_with_indices_backward,
    "aten.max_pool3d_with_indices_backward.default": pools.max_pool_with_indices_backward,
    "aten.max_pool3d_with_indices.default": volumes.max_pool3d_with_indices,
    "aten.avg_pool2d_backward.default": pools.avg_pool_backward,
    "aten.avg_pool3d_backward.default": pools.avg_pool_backward,
    "aten.avg_pool3d.default": volumes.avg_pool3d,
    "aten.adaptive_max_pool2d.default": volumes.adaptive_max_pool,
    "aten.adaptive_max_pool3d.default": volumes.adaptive_max_pool,
    "aten.adaptive_max_pool2d_backward.default": volumes.adaptive_max_pool2d_backward,
    "aten.adaptive_max_pool3d_backward.default": volumes.adaptive_max_pool3d_backward,
    "aten._adaptive_avg_pool2d.default": pools.adaptive_avg_pool,
    "aten._adaptive_avg_pool3d.default": pools.adaptive_avg_pool,
    "aten._adaptive_avg_pool3d_backward.default": pools.adaptive_avg_pool3d_backward,
    "aten._adaptive_avg_pool2d_backward.default": pools.adaptive_avg_pool2d_backward,
    "aten.adaptive_avg_pool1d.default": pools.adaptive_avg_pool1d,
    "aten.avg_pool1d.default": pools.avg_pool1d,
    "aten._native_batch_norm_legit_no_training.default": normalisation.batch_norm_no_training,
    "aten.var_mean.correction": normalisation.var_mean,
    **{
        f"aten.{name}_backward.default": sampling.gradient_of_resizing(kind, rank)
        for name, kind, rank in (
            ("upsample_nearest1d", "nearest", 1),
            ("upsample_nearest2d", "nearest", 2),
            ("upsample_nearest3d", "nearest", 3),
            ("_upsample_nearest_exact1d", "nearest_exact", 1),
            ("_upsample_nearest_exact2d", "nearest_exact", 2),
            ("_upsample_nearest_exact3d", "nearest_exact", 3),
            ("upsample_linear1d", "linear", 1),
            ("upsample_bilinear2d", "linear", 2),
            ("upsample_trilinear3d", "linear", 3),
            ("upsample_bicubic2d", "cubic", 2),
        )
    },
    "aten.as_strided.default": shapes.as_strided,
    "aten.new_full.default": shapes.new_full,
    **{made.operator: getattr(reference, made.name) for made in RECURRENCES.values()},
}
"""Those that serve every variant which does not have the operation itself, by its name."""

PLAINER: Mapping[str, Expansion] = {
    "aten.convolution.default": convolutions.convolution,
    "aten.max_pool2d_with_indices.default": pools.max_pool2d_with_indices,
    "aten.avg_pool2d.default": pools.avg_pool2d,
    "aten.index_put.default": indexing.index_put,
    "aten.slice_scatter.default": shapes.slice_scatter,
}
"""Those for variants that have an operation in its plain form only; they leave the plain form as it is."""
