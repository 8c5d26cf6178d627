"""Rows for the same elements under another shape, and for tensors made from sizes and numbers."""

import functools

from fedplan.plan.ops import guards
from fedplan.plan.ops.op import Kind, Trait, op
from fedplan.plan.ops.words import slice_words

_view = functools.partial(op, Kind.VIEW)
_new = functools.partial(op, Kind.CREATE)

COMPOSITE, FOREIGN, DIRECT, LIST = Trait.COMPOSITE, Trait.FOREIGN, Trait.DIRECT, Trait.LIST

ROWS = (
    _view("chunk.default", COMPOSITE | LIST, count=guards.chunks),
    _view("diagonal.default"),
    _view("expand.default", DIRECT),
    _view("flatten.using_ints", COMPOSITE),
    _view("permute.default", DIRECT),
    _view("reshape.default", DIRECT, pysyft="view", traced_as="view.default _unsafe_view.default"),
    _view("select.int", DIRECT),
    _view("slice.Tensor", torchscript=slice_words("torch.slice({self}, ")),
    _view("split.Tensor", FOREIGN | LIST, count=guards.pieces),
    _view("split_with_sizes.default", LIST, count=guards.listed_pieces),
    _view("squeeze.default", DIRECT),
    _view("squeeze.dim", DIRECT),
    _view("squeeze.dims", DIRECT, traced_as="squeeze.dim", torchscript="@squeeze({self}, {dim})"),
    _view("t.default", COMPOSITE),
    _view("transpose.int", FOREIGN),
    _view("unbind.int", FOREIGN | LIST, count=guards.slices),
    _view("unsqueeze.default", DIRECT),
    _new("arange.start_step", torchscript="torch.arange({start}, {end}, {step}, dtype={dtype})"),
    _new("cat.default", DIRECT),
    _new("constant_pad_nd.default"),
    _new("eye.default"),
    _new("flip.default"),
    _new("full.default"),
    _new("full_like.default"),
    _new("ones_like.default"),
    _new("repeat.default"),
    _new("scalar_tensor.default"),
    _new("stack.default", FOREIGN),
    _new("tril_indices.default"),
    _new("triu_indices.default"),
    _new("zeros_like.default"),
)
"""All of them."""
