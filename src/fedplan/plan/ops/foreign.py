"""Rows that only Plans made elsewhere hold: functions of PyTorch's that PySyft records as one action.

Core ATen says each of them with other rows, and so do Plans that fedplan traces.
"""

from collections.abc import Sequence
from typing import Any

from fedplan.plan.ops import guards
from fedplan.plan.ops.op import ELEMENT, Kind, Op, Trait, op

FOREIGN, HOLDS_TERMS = Trait.FOREIGN, Trait.FOREIGN | Trait.HOLDS_TERMS


def _rows(kind: Kind, names: str, traits: Trait = FOREIGN) -> tuple[Op, ...]:
    return tuple(op(kind, name, traits, torchscript=None) for name in names.split())


def _rolled(args: Sequence[Any]) -> int:
    """Elements that are written: a copy for each dimension in the list, which may name one many times."""
    return int(args[0].numel()) * max(len(args[1]), 1)


def _work_of_rolling(args: Sequence[Any]) -> int:
    return 2 * ELEMENT * _rolled(args)


def _copies_of_rolling(args: Sequence[Any]) -> int:
    return _rolled(args) * int(args[0].element_size())


ROWS = (
    *_rows(
        Kind.POINTWISE,
        "celu.default clamp_max.default clamp_max.Tensor clamp_min.default clamp_min.Tensor frac.default "
        "glu.default hardshrink.default masked_fill.Scalar masked_fill.Tensor prelu.default relu6.default "
        "selu.default softplus.default softshrink.default threshold.default tril.default triu.default "
        "rot90.default diag.default diag_embed.default",
    ),
    op(
        Kind.POINTWISE,
        "roll.default",
        FOREIGN,
        torchscript=None,
        work=_work_of_rolling,
        scratch=_copies_of_rolling,
    ),
    op(Kind.POINTWISE, "log_sigmoid.default", FOREIGN, torchscript=None, pysyft="logsigmoid"),
    *_rows(Kind.REDUCTION, "logsumexp.default std_mean.default var_mean.default trace.default"),
    *_rows(
        Kind.REDUCTION,
        "binary_cross_entropy.default cosine_embedding_loss.default cosine_similarity.default "
        "dist.default hinge_embedding_loss.default kl_div.default l1_loss.default "
        "margin_ranking_loss.default pairwise_distance.default poisson_nll_loss.default "
        "smooth_l1_loss.default soft_margin_loss.default triplet_margin_loss.default",
        HOLDS_TERMS,
    ),
    *_rows(Kind.NORMALISATION, "group_norm.default layer_norm.default"),
    # executors fuse into it, and write over what they own
    op(Kind.MATMUL, "addmv.default", FOREIGN | Trait.IN_PLACE | Trait.DIRECT, torchscript=None),
    op(Kind.MATMUL, "baddbmm.default", FOREIGN | Trait.IN_PLACE | Trait.DIRECT, torchscript=None),
    *_rows(Kind.MATMUL, "addr.default ger.default mv.default"),
    *_rows(
        Kind.CONVOLUTION,
        "conv1d.default conv3d.default conv_transpose1d.default conv_transpose2d.input "
        "conv_transpose3d.input",
    ),
    *_rows(Kind.POOL, "adaptive_avg_pool2d.default adaptive_avg_pool3d.default"),
    op(Kind.POOL, "max_pool1d.default", FOREIGN, torchscript=None, guard=guards.max_pool(1)),
    op(Kind.POOL, "max_pool3d.default", FOREIGN, torchscript=None, guard=guards.max_pool(3)),
    *_rows(Kind.VIEW, "expand_as.default narrow.default reshape_as.default unfold.default view_as.default"),
    *_rows(Kind.INDEX, "index_add.default index_copy.default index_fill.int_Scalar take.default"),
)
"""All of them that no other module has."""
