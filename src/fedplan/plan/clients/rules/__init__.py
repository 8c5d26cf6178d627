"""How each operation is computed for many clients side by side: one rule for each, by name."""

from collections.abc import Mapping

from fedplan.plan.clients.lifting import Lifting, Rule
from fedplan.plan.clients.rules import (
    convolutions,
    dimensions,
    elements,
    indexing,
    matrices,
    normalisation,
    products,
    recurrent,
    shapes,
)
from fedplan.plan.ops import OPS, Kind, Op
from fedplan.plan.ops.clients import BY_VMAP
from fedplan.plan.recurrence.schema import RECURRENCES


def _named(rule: Rule, names: str) -> dict[str, Rule]:
    """The rule for several operations, whose names stand without ``aten.`` and between spaces."""
    return {f"aten.{name}": rule for name in names.split()}


def _rank(op: Op) -> int:
    """Dimensions of an operation on pictures, series or volumes, from its name."""
    return next(rank for rank in (1, 2, 3) if f"{rank}d" in op.name)


def _sampling(op: Op) -> Rule:
    if "grid" in op.name:
        return convolutions.sampled
    return convolutions.resized_backward if "backward" in op.name else convolutions.pooled(_rank(op))


RULES: Mapping[str, Rule] = {
    **{op.name: elements.pointwise for op in OPS.values() if op.kind is Kind.POINTWISE},
    **{op.name: matrices.stacks for op in OPS.values() if op.kind is Kind.FACTOR},
    **{recurrence.operator: recurrent.recurrence(name) for name, recurrence in RECURRENCES.items()},
    **_named(
        dimensions.along,
        "_log_softmax.default _log_softmax_backward_data.default _softmax.default "
        "_softmax_backward_data.default all.dim any.dim chunk.default cummax.default cummin.default "
        "cumprod.default cumsum.default diagonal.default flip.default gather.default glu.default "
        "kthvalue.default log_softmax.int logcumsumexp.default max.dim median.dim min.dim mode.default "
        "nanmedian.dim narrow.default prod.dim_int rot90.default scatter.src scatter.value "
        "scatter_add.default scatter_reduce.two select.int select_scatter.default slice.Tensor "
        "slice_scatter.default softmax.int sort.default sort.stable split.Tensor split_with_sizes.default "
        "topk.default unbind.int unfold.default",
    ),
    **_named(
        dimensions.over,
        "amax.default amin.default any.dims argmax.default argmin.default linalg_vector_norm.default "
        "logsumexp.default mean.dim norm.ScalarOpt_dim roll.default sum.dim_IntList var.correction",
    ),
    "aten.all.default": dimensions.entire("all.dim"),
    "aten.any.default": dimensions.entire("any.dim"),
    "aten.max.default": dimensions.entire("amax.default"),
    "aten.mean.default": dimensions.entire("mean.dim", False),
    "aten.median.default": dimensions.entire("median.dim"),
    "aten.min.default": dimensions.entire("amin.default"),
    "aten.nanmedian.default": dimensions.entire("nanmedian.dim"),
    "aten.norm.Scalar": dimensions.norm,
    "aten.prod.default": dimensions.entire("prod.dim_int", False),
    "aten.sum.default": dimensions.entire("sum.dim_IntList", False),
    "aten.cat.default": dimensions.joined,
    "aten.stack.default": dimensions.stacked,
    **_named(
        elements.loss,
        "binary_cross_entropy.default binary_cross_entropy_with_logits.default hinge_embedding_loss.default "
        "kl_div.default l1_loss.default margin_ranking_loss.default mse_loss.default "
        "poisson_nll_loss.default smooth_l1_loss.default soft_margin_loss.default "
        "triplet_margin_loss.default",
    ),
    "aten.mse_loss_backward.default": elements.squared_difference_backward,
    "aten.gelu_backward.default": elements.unbroadcast,
    "aten.masked_fill.Tensor": elements.masked_fill,
    **_named(
        shapes.reshaped,
        "flatten.using_ints reshape.default reshape_as.default squeeze.default squeeze.dim squeeze.dims "
        "unsqueeze.default view_as.default",
    ),
    **_named(shapes.expanded, "expand.default expand_as.default"),
    **_named(shapes.exchanged, "t.default transpose.int"),
    "aten.permute.default": shapes.permuted,
    "aten.full_like.default": shapes.filled(None),
    "aten.ones_like.default": shapes.filled(1),
    "aten.zeros_like.default": shapes.filled(0),
    "aten.repeat.default": shapes.repeated,
    **_named(shapes.as_it_is, "constant_pad_nd.default tril.default triu.default"),
    "aten.addmm.default": products.product_added,
    "aten.addmv.default": products.vector_product_added,
    "aten.baddbmm.default": products.stacks_added,
    "aten.bmm.default": products.product_of_stacks,
    "aten.dot.default": products.inner,
    "aten.ger.default": products.outer,
    "aten.linear.default": products.linear,
    "aten.matmul.default": matrices.multiplied,
    "aten.mm.default": products.product,
    "aten.mv.default": products.vector_product,
    "aten.convolution.default": convolutions.convolution,
    "aten.convolution_backward.default": convolutions.convolution_backward,
    **_named(
        normalisation.batch_norm,
        "_native_batch_norm_legit.no_stats _native_batch_norm_legit_functional.default "
        "_native_batch_norm_legit_no_training.default",
    ),
    "aten.native_batch_norm_backward.default": normalisation.batch_norm_backward,
    "aten.native_group_norm.default": normalisation.group_norm,
    "aten.native_group_norm_backward.default": normalisation.group_norm_backward,
    "aten.native_layer_norm.default": normalisation.layer_norm,
    "aten.native_layer_norm_backward.default": normalisation.layer_norm_backward,
    **{op.name: convolutions.pooled(_rank(op)) for op in OPS.values() if op.kind is Kind.POOL},
    **{op.name: _sampling(op) for op in OPS.values() if op.kind is Kind.SAMPLING},
    "aten.embedding.default": indexing.embedding,
    "aten.embedding_dense_backward.default": indexing.embedding_backward,
    "aten.index.Tensor": indexing.index,
    "aten.index_put.default": indexing.index_put,
    "aten.index_select.default": indexing.index_select,
    "aten.nll_loss_forward.default": indexing.likelihood,
    "aten.nll_loss_backward.default": indexing.likelihood_backward,
    "aten.take.default": indexing.taken,
    "aten.searchsorted.Tensor": indexing.searched,
    "aten.searchsorted.Scalar": indexing.searched_number,
    "aten.bucketize.Tensor": indexing.bucketed,
    "aten.bucketize.Scalar": indexing.bucketed_number,
    "aten.histc.default": indexing.histogram,
    "aten._linalg_solve_ex.default": matrices.solved,
    "aten.linalg_solve_triangular.default": shapes.as_it_is,
    "aten._ctc_loss.Tensor": indexing.alignments,
    "aten._ctc_loss_backward.Tensor": indexing.alignments_backward,
    **dict.fromkeys(BY_VMAP, Lifting.by_vmap),
}
"""For every operation that may read a value which is apart."""


def rule(name: str) -> Rule:
    """The rule of an operation."""
    return RULES[name]
