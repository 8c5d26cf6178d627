"""What is put in the place of operations on many clients: lists of (pattern, replacement)."""

from collections.abc import Callable, Sequence

from fedplan.plan.ir.graph import Ref
from fedplan.plan.run.patterns import AnyTensor, Anything, Call, Match, PatternRule, call

_G, _X, _Y = (AnyTensor(name) for name in "gxy")
_DIM, _DTYPE, _SHAPE = (Anything(name) for name in ("dim", "dtype", "shape"))


def _if_unchanged(m: Match) -> Ref | None:
    """A tensor that has its shape already."""
    same: Ref | None = m["x"] if m.shape("x") == m.made else None
    return same


TOGETHER: Sequence[PatternRule] = ((call("reshape.default", _X, _SHAPE), _if_unchanged),)
"""On any device."""


_FEW = 15
"""So few classes that PyTorch's softmax is three to five times slower than its parts: they are fewer than the
numbers that a processor computes at once."""


def _over_few(name: str, parts: Callable[[Match, tuple[int]], Call]) -> Callable[[Match], Call | None]:
    """The parts, where the last dimension of the tensor of this name is meant, and has few elements."""

    def replacement(m: Match) -> Call | None:
        shape = m.shape(name)
        last = len(shape) - 1
        fits = m["dim"] == last and 0 < shape[last] <= _FEW and m.floats(name)
        return parts(m, (last,)) if fits else None

    return replacement


def _log_softmax(m: Match, last: tuple[int]) -> Call:
    below = call("sub.Tensor", m["x"], call("amax.default", m["x"], last, True))
    total = call("sum.dim_IntList", call("exp.default", below), last, True)
    return call("sub.Tensor", below, call("log.default", total))


def _log_softmax_backward(m: Match, last: tuple[int]) -> Call:
    total = call("sum.dim_IntList", m["g"], last, True)
    return call("sub.Tensor", m["g"], call("mul.Tensor", call("exp.default", m["y"]), total))


def _softmax(m: Match, last: tuple[int]) -> Call:
    below = call("sub.Tensor", m["x"], call("amax.default", m["x"], last, True))
    grown = call("exp.default", below)
    return call("div.Tensor", grown, call("sum.dim_IntList", grown, last, True))


def _softmax_backward(m: Match, last: tuple[int]) -> Call:
    total = call("sum.dim_IntList", call("mul.Tensor", m["g"], m["y"]), last, True)
    return call("mul.Tensor", call("sub.Tensor", m["g"], total), m["y"])


ON_CPU: Sequence[PatternRule] = (
    (call("_log_softmax.default", _X, _DIM, False), _over_few("x", _log_softmax)),
    (
        call("_log_softmax_backward_data.default", _G, _Y, _DIM, _DTYPE),
        _over_few("g", _log_softmax_backward),
    ),
    (call("_softmax.default", _X, _DIM, False), _over_few("x", _softmax)),
    (call("_softmax_backward_data.default", _G, _Y, _DIM, _DTYPE), _over_few("g", _softmax_backward)),
)
"""What is quicker on a CPU, and rounds differently."""
