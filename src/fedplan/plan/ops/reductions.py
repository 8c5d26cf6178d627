"""Rows for what makes one element of many."""

import functools
from collections.abc import Mapping
from typing import Any

from fedplan.plan.ops.op import Kind, Trait, op

_row = functools.partial(op, Kind.REDUCTION)

COMPOSITE, DIRECT = Trait.COMPOSITE, Trait.DIRECT
CHECKS_VALUES, HOLDS_TERMS, ORDERS = Trait.CHECKS_VALUES, Trait.HOLDS_TERMS, Trait.ORDERS


def _variance(given: Mapping[str, Any]) -> str:
    correction = "1." if given["correction"] is None else "float({correction})"
    return f"@variance({{self}}, {{dim}}, {correction}, {{keepdim}})"


def _search(given: Mapping[str, Any]) -> str | None:
    """Torch 1.8 knows one of the two ways to ask for the right side, and no sorter."""
    if given["side"] is not None or given["sorter"] is not None:
        return None
    return "torch.searchsorted({sorted_sequence}, {self}, out_int32={out_int32}, right={right})"


ROWS = (
    _row("all.default", torchscript="torch.all(torch.ne({self}, 0))"),
    _row("all.dim", torchscript="torch.all(torch.ne({self}, 0), {dim}, {keepdim})"),
    _row("amax.default", DIRECT),
    _row("amin.default", DIRECT),
    _row("any.default", torchscript="torch.any(torch.ne({self}, 0))"),
    _row("any.dim", torchscript="torch.any(torch.ne({self}, 0), {dim}, {keepdim})"),
    _row("any.dims", torchscript="@any({self}, {dim}, {keepdim})"),
    _row("argmax.default", DIRECT),
    _row("argmin.default", DIRECT),
    _row("binary_cross_entropy_with_logits.default", COMPOSITE | HOLDS_TERMS),
    _row("bucketize.Scalar"),
    _row("bucketize.Tensor"),
    _row(
        "cross_entropy_loss.default",
        COMPOSITE | CHECKS_VALUES,
        pysyft="cross_entropy",
        torchscript=(
            "@cross_entropy({self}, {target}, {weight}, {reduction}, {ignore_index}, {label_smoothing})"
        ),
    ),
    _row("cummax.default"),
    _row("cummin.default"),
    _row("cumprod.default", DIRECT),
    _row("cumsum.default", DIRECT),
    _row("dot.default", COMPOSITE),
    _row("histc.default"),
    _row("kthvalue.default", ORDERS),
    _row(
        "linalg_vector_norm.default",
        torchscript="@vector_norm({self}, float({ord}), {dim}, {keepdim}, {dtype})",
    ),
    _row("logcumsumexp.default"),
    _row("max.default"),
    _row("max.dim"),
    _row("mean.default", DIRECT),
    _row("mean.dim", DIRECT),
    _row("median.default", ORDERS),
    _row("median.dim", ORDERS),
    _row("min.default"),
    _row("min.dim"),
    _row("mode.default", ORDERS),
    _row("mse_loss.default", HOLDS_TERMS),
    _row("nanmedian.default", ORDERS, torchscript=None),
    _row("nanmedian.dim", ORDERS, torchscript=None),
    _row("nll_loss_forward.default", CHECKS_VALUES),
    _row("norm.Scalar", COMPOSITE),
    _row("norm.ScalarOpt_dim", COMPOSITE),
    _row("prod.default", DIRECT),
    _row("prod.dim_int", DIRECT),
    _row("searchsorted.Scalar", torchscript=_search),
    _row("searchsorted.Tensor", torchscript=_search),
    _row("sort.default", ORDERS),
    _row("sort.stable", ORDERS, torchscript=None),
    _row("sum.default", DIRECT),
    _row("sum.dim_IntList", DIRECT),
    _row("topk.default", ORDERS),
    _row("var.correction", torchscript=_variance),
)
"""All of them."""
