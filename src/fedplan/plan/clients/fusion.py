"""What is put in the place of operations on many clients: lists of (pattern, replacement)."""

from collections.abc import Sequence

from fedplan.plan.ir.graph import Ref
from fedplan.plan.ops.executor import SIDE_BY_SIDE
from fedplan.plan.run.patterns import Anything, Call, Match, PatternRule, call

_A, _B, _X = (Anything(name) for name in "abx")
_DTYPE, _SHAPE = Anything("dtype"), Anything("shape")


def _if_unchanged(m: Match) -> Ref | None:
    """A tensor that has its shape already."""
    same: Ref | None = m["x"] if m.shape("x") == m.made else None
    return same


TOGETHER: Sequence[PatternRule] = ((call("reshape.default", _X, _SHAPE), _if_unchanged),)
"""On any device."""


_FEW = 15
"""So few classes that a softmax is several times quicker with the classes one below the other: they are fewer
than the numbers that a processor computes at once."""


def _turned(value: object) -> Call:
    return call("permute.default", value, (1, 0))


def _log_softmax(m: Match) -> Call | None:
    _, rows, classes = m.shape("x")
    if classes > _FEW or not rows or not m.floats("x"):
        return None
    below = call("_log_softmax.default", _turned(call("reshape.default", m["x"], (-1, classes))), 0, False)
    return call("reshape.default", Call(SIDE_BY_SIDE, (_turned(below),)), (-1, rows, classes))


def _log_softmax_backward(m: Match) -> Call | None:
    """The gradient of one that `_log_softmax` has turned, in the same order."""
    _, rows, classes = m.shape("a")
    if not rows or not m.floats("a", "b"):
        return None
    gradient = _turned(call("reshape.default", m["a"], (-1, classes)))
    below = call("_log_softmax_backward_data.default", gradient, m["b"], 0, m["dtype"])
    return call("reshape.default", Call(SIDE_BY_SIDE, (_turned(below),)), (-1, rows, classes))


_SOFTMAX_BELOW = call("reshape.default", Call(SIDE_BY_SIDE, (_turned(_B),)), _SHAPE)

ON_CPU: Sequence[PatternRule] = (
    (call("_log_softmax.default", _X, 2, False), _log_softmax),
    (call("_log_softmax_backward_data.default", _A, _SOFTMAX_BELOW, 2, _DTYPE), _log_softmax_backward),
)
"""What is quicker on a CPU, and rounds differently."""
