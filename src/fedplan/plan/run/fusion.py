"""What the fast executor puts in the place of operations: lists of (pattern, replacement).

`EXACT` rules give the same bits. `ROUNDING` rules do the same arithmetic in fewer roundings, most of all the
update inside the gradient's matrix product; they serve only a run whose caller gave its parameters up
(`fedplan.plan.run.repeated`), and results agree to about 1e-6.
"""

import math
from collections.abc import Callable, Sequence

from fedplan.plan.ops.executor import ONEDNN_FROM, ONEDNN_LINEAR, ONEDNN_PRODUCT, SIDE_BY_SIDE
from fedplan.plan.run.patterns import AnyTensor, Anything, Call, Match, Number, PatternRule, call

_A, _B, _X, _Y, _W, _V = (AnyTensor(name) for name in "abxywv")
_DTYPE = Anything("dtype")
_RATE, _FACTOR = Number("rate"), Number("factor")
_TRANSPOSED = (1, 0)
_END = 2**63 - 1


def _transpose(value: object) -> Call:
    return call("permute.default", value, _TRANSPOSED)


def _linear(m: Match) -> Call | None:
    """PyTorch's linear layer reads the weight transposed by itself."""
    fits = len(m.shape("b")) == 1 and len(m.shape("x")) == 2
    return call("linear.default", m["x"], m["w"], m["b"]) if fits else None


def _column_sums(m: Match) -> Call | None:
    fits = m["shape"] == m.shape("x")[1:] and len(m.shape("x")) == 2
    return call("sum.dim_IntList", m["x"], (0,)) if fits else None


def _scalar_first(op: str, name: str, m: Match) -> Call | None:
    """A number before a tensor, which the compiler can make a tensor once."""
    return call(op, m[name], m["x"]) if m.floats("x") else None


def _filled(value: int) -> Callable[[Match], Call | None]:
    def replacement(m: Match) -> Call | None:
        return call("full.default", m.shape("x"), value, m.dtype("x"))

    return replacement


EXACT: Sequence[PatternRule] = (
    (call("addmm.default", _B, _X, _transpose(_W)), _linear),
    (call("reshape.default", call("sum.dim_IntList", _X, (0,), True), Anything("shape")), _column_sums),
    (call("slice.Tensor", _X, Anything("dim"), 0, _END), lambda m: m["x"]),
    (
        call("mean.default", call("_to_copy.default", _X, "float32")),
        lambda m: call("mean.default", m["x"], "float32"),
    ),
    (call("pow.Scalar", Number("base"), _X), lambda m: _scalar_first("pow.Tensor_Tensor", "base", m)),
    (call("rsub.Scalar", _X, Number("from")), lambda m: _scalar_first("sub.Tensor", "from", m)),
    (call("ones_like.default", _X), _filled(1)),
    (call("zeros_like.default", _X), _filled(0)),
)
"""Shorter ways to the very same bits."""


def _product_added(scale: Callable[[Match], float]) -> Callable[[Match], Call | None]:
    """w + scale · (a @ b), in the product itself."""

    def replacement(m: Match) -> Call | None:
        if m.shape("w") != (m.shape("a")[0], m.shape("b")[1]) or not m.floats("w", "a", "b"):
            return None
        return call("addmm.default", m["w"], m["a"], m["b"], 1, scale(m))

    return replacement


def _scaled_added(scale: Callable[[Match], float]) -> Callable[[Match], Call | None]:
    """w + scale · x."""

    def replacement(m: Match) -> Call | None:
        fits = m.shape("w") == m.shape("x") and m.floats("w", "x")
        return call("add.Tensor", m["w"], m["x"], scale(m)) if fits else None

    return replacement


def _sums_added(m: Match) -> Call | None:
    """w + scale · (the sum of x over its rows): a product with ones."""
    if len(m.shape("x")) != 2 or m.shape("w") != m.shape("x")[1:] or not m.floats("w", "x"):
        return None
    rows = call("full.default", m.shape("x")[:1], 1, m.dtype("x"))
    return call("addmv.default", m["w"], _transpose(m["x"]), rows, 1, m["rate"])


def _two_layers(m: Match) -> Call | None:
    """Two linear layers that are added write into one tensor; their biases are added before."""
    plain = len(m.shape("a")) == len(m.shape("b")) == 1 and len(m.shape("x")) == len(m.shape("y")) == 2
    if not (plain and m.shape("a") == m.shape("b") and m.floats("a", "b", "x", "y", "v", "w")):
        return None
    both = call("linear.default", m["y"], m["v"], call("add.Tensor", m["a"], m["b"]))
    return call("addmm.default", both, m["x"], _transpose(m["w"]))


_FEW, _MANY = 32, 64
"""So few classes, and rows so many, that a softmax is quicker with the classes one below the other."""


def _log_softmax(m: Match) -> Call | None:
    shape = m.shape("x")
    if len(shape) != 2 or shape[1] > _FEW or shape[0] < _MANY or not m.floats("x"):
        return None
    below = call("_log_softmax.default", _transpose(m["x"]), 0, False)
    return Call(SIDE_BY_SIDE, (_transpose(below),))


def _log_softmax_backward(m: Match) -> Call | None:
    """The gradient of one that `_log_softmax` has turned, in the same order."""
    if len(m.shape("a")) != 2 or not m.floats("a", "b"):
        return None
    dtype = m["dtype"]
    return _transpose(call("_log_softmax_backward_data.default", _transpose(m["a"]), m["b"], 0, dtype))


def _is_large(m: Match) -> bool:
    return (
        math.prod(m.shape("a")) * m.shape("b")[1] >= ONEDNN_FROM and m.dtype("a") == m.dtype("b") == "float32"
    )


def _large_linear(m: Match) -> Call | None:
    large = math.prod(m.shape("x")) * m.shape("w")[0] >= ONEDNN_FROM
    plain = len(m.shape("x")) == 2 and len(m.shape("b")) == 1
    floats = m.dtype("x") == m.dtype("w") == m.dtype("b") == "float32"
    return Call(ONEDNN_LINEAR, (m["x"], m["w"], m["b"])) if large and plain and floats else None


def _large_product(m: Match) -> Call | None:
    return Call(ONEDNN_PRODUCT, (m["a"], m["b"])) if _is_large(m) else None


def _large_product_added(m: Match) -> Call | None:
    if not _is_large(m) or m.shape("w") != (m.shape("a")[0], m.shape("b")[1]) or m.dtype("w") != "float32":
        return None
    return call("add.Tensor", m["w"], Call(ONEDNN_PRODUCT, (m["a"], m["b"])), m["rate"])


def _mean(m: Match) -> Call | None:
    """PyTorch does the same, and makes a tensor of the count each time."""
    count = math.prod(m.shape("x"))
    return call("div.Tensor", call("sum.default", m["x"], m["dtype"]), count) if count else None


_PRODUCT = call("mm.default", _A, _B)
_SUMS = call("sum.dim_IntList", _X, (0,))


def _minus_rate(m: Match) -> float:
    return -float(m["rate"])


def _rate(m: Match) -> float:
    return float(m["rate"])


def _both(m: Match) -> float:
    return float(m["rate"] * m["factor"])


def _one(_: Match) -> float:
    return 1


FUSED: Sequence[PatternRule] = (
    # an update that is a product with a known rate: torch's SGD, and the ways of writing it by hand
    (call("addcmul.default", _W, _PRODUCT, _RATE, _FACTOR), _product_added(_both)),
    (call("addcmul.default", _W, _X, _RATE, _FACTOR), _scaled_added(_both)),
    (call("sub.Tensor", _W, call("mul.Tensor", _X, _RATE)), _scaled_added(_minus_rate)),
    (call("sub.Tensor", _W, call("mul.Tensor", _RATE, _X)), _scaled_added(_minus_rate)),
    (call("add.Tensor", _W, call("mul.Tensor", _X, _RATE)), _scaled_added(_rate)),
    # sums that end in a product
    (call("add.Tensor", _W, _PRODUCT, _RATE), _product_added(_rate)),
    (call("add.Tensor", _PRODUCT, _W), _product_added(_one)),
    (call("add.Tensor", call("linear.default", _X, _W, _A), call("linear.default", _Y, _V, _B)), _two_layers),
)
"""Fewer roundings: only where the caller asked for the update to be fused."""

ROUNDING: Sequence[PatternRule] = (*FUSED, (call("add.Tensor", _W, _SUMS, _RATE), _sums_added))
"""The same for one client; many clients' sums are sums, and no product with ones."""

ON_CPU: Sequence[PatternRule] = (
    (call("_log_softmax.default", _X, 1, False), _log_softmax),
    (
        call("_log_softmax_backward_data.default", _A, Call(SIDE_BY_SIDE, (_transpose(_B),)), 1, _DTYPE),
        _log_softmax_backward,
    ),
    (call("mean.default", _X, _DTYPE), _mean),
)
"""What rounds differently too, and is quicker on a CPU only; after the other rules."""

ONEDNN: Sequence[PatternRule] = (
    (call("linear.default", _X, _W, _B), _large_linear),
    (call("mm.default", _A, _B), _large_product),
    (call("addmm.default", _W, _A, _B, 1, _RATE), _large_product_added),
)
"""Large products by oneDNN, where PyTorch has it (`ops.executor.has_onednn`); after the other rules."""
