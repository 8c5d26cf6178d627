"""The op table: every operation that a Plan may hold. What is not here cannot be hosted, sent or run.

The set is Core ATen (https://pytorch.org/docs/stable/torch.compiler_ir.html) without what depends on chance
or on values (random numbers, `nonzero`), without what breaks value semantics (`as_strided`, in-place
forms), and with

* the gradients that PyTorch computes in one kernel (`threshold_backward`, `nll_loss_backward` …), which
  decomposed would be ten operations each;
* recurrent layers as one operation (``fedplan.lstm`` …), whatever their number of time steps;
* integer arithmetic on sizes (``sym.*``), so that a Plan works for any batch size;
* the composite operators that Plans made by PySyft call (`aten.linear`, `aten.softmax.int` …).
"""

from collections.abc import Mapping

from fedplan.errors import UnsupportedOpError
from fedplan.plan.ops import (
    alignments,
    clients,
    executor,
    foreign,
    indexing,
    layers,
    linear_algebra,
    pointwise,
    recurrent,
    reductions,
    sampling,
    sizes,
    views,
)
from fedplan.plan.ops.op import Op
from fedplan.plan.ops.refused import INSTEAD


def _by_name(*groups: tuple[Op, ...]) -> dict[str, Op]:
    return {row.name: row for rows in groups for row in rows}


OPS: Mapping[str, Op] = _by_name(
    pointwise.ROWS,
    reductions.ROWS,
    views.ROWS,
    layers.ROWS,
    sampling.ROWS,
    linear_algebra.ROWS,
    alignments.ROWS,
    recurrent.ROWS,
    indexing.ROWS,
    sizes.ROWS,
    foreign.ROWS,
)
"""Every operation that a Plan may hold, by name."""

EXECUTOR_OPS: Mapping[str, Op] = _by_name(executor.ROWS, recurrent.EXECUTOR_ROWS, clients.ROWS)
"""Operations that an executor may put in place of others. No Plan can hold them."""


def row(name: str) -> Op:
    """The row of an operation in a graph that is verified, and maybe rewritten for an executor."""
    return EXECUTOR_OPS.get(name) or lookup(name)


def lookup(name: str, source: str | None = None) -> Op:
    """The row of an operation.

    Raises:
        UnsupportedOpError: the table has no such row; `source` is repeated in its message.
    """
    found = OPS.get(name)
    if found is None:
        raise UnsupportedOpError(name, source=source, instead=INSTEAD.get(".".join(name.split(".")[:2])))
    return found
