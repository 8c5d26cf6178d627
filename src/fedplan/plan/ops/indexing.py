"""Rows for elements that are chosen by numbers."""

import functools
from collections.abc import Mapping
from typing import Any

from fedplan.plan.ops import guards
from fedplan.plan.ops.op import Kind, Trait, op
from fedplan.plan.ops.words import slice_words

_row = functools.partial(op, Kind.INDEX)

COMPOSITE, DIRECT = Trait.COMPOSITE, Trait.DIRECT


def _reduced(given: Mapping[str, Any]) -> str | None:
    """Torch 1.8 can only add."""
    adds = given["reduce"] == "sum" and given["include_self"]
    return "torch.scatter_add({self}, {dim}, {index}, {src})" if adds else None


ROWS = (
    _row("embedding.default", DIRECT),
    _row("embedding_dense_backward.default", guard=guards.embedding_backward),
    _row("gather.default", DIRECT),
    _row("index.Tensor"),
    _row("index_put.default"),
    _row("index_select.default", DIRECT),
    _row("nll_loss_backward.default", witness=guards.LIKELIHOOD),
    _row("one_hot.default", COMPOSITE),
    _row("scatter.src", DIRECT),
    _row("scatter.value", DIRECT),
    _row("scatter_add.default"),
    _row("scatter_reduce.two", torchscript=_reduced),
    _row("select_scatter.default", torchscript="@select_scatter({self}, {src}, {dim}, {index})"),
    _row("slice_scatter.default", torchscript=slice_words("@slice_scatter({self}, {src}, ")),
)
"""All of them."""
