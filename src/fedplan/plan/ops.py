"""The op table: every operation that a Plan may hold. What is not here cannot be hosted, sent or run.

A row is a name, a kind, and, where PyTorch's kernel trusts its caller, a guard. Arity, argument kinds and
defaults come from PyTorch's own schema of the operator; shapes come from running it on the meta device.

The set is Core ATen (https://pytorch.org/docs/stable/torch.compiler_ir.html) without what depends on chance
or on values (random numbers, `nonzero`), without what breaks value semantics (`as_strided`, in-place
forms), and with

* the gradients that PyTorch computes in one kernel (`threshold_backward`, `nll_loss_backward` …), which
  decomposed would be ten operations each;
* integer arithmetic on sizes (``sym.*``), so that a Plan works for any batch size;
* the composite operators that Plans made by PySyft call (`aten.linear`, `aten.softmax.int` …).
"""

import dataclasses
import enum
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import UnsupportedOpError
from fedplan.plan.guards import GUARDS, RESULT_COUNTS, Guard
from fedplan.plan.kernels import KERNELS
from fedplan.plan.recurrence import operators as _operators  # noqa: F401  # makes torch.ops.fedplan
from fedplan.plan.recurrence.executors import EXECUTORS
from fedplan.plan.recurrence.schema import RECURRENCES, refusal


class Kind(enum.Enum):
    """What an operation does, as far as cost and rewriting care."""

    POINTWISE = "pointwise"
    """Element by element, with broadcasting."""
    REDUCTION = "reduction"
    """Many elements into one."""
    VIEW = "view"
    """The same elements under another shape; usually no copy."""
    MATMUL = "matmul"
    CONVOLUTION = "convolution"
    NORMALISATION = "normalisation"
    """Softmax, layer, batch and group normalisation, with their gradients."""
    INDEX = "index"
    """Reads or writes elements chosen by numbers."""
    POOL = "pool"
    RECURRENCE = "recurrence"
    """A recurrent layer in one direction, or its gradient."""
    CREATE = "create"
    """New values from sizes and numbers."""
    SIZE = "size"
    """Numbers about shapes; never tensors."""


@dataclasses.dataclass(frozen=True, slots=True)
class Op:
    """One row of the table.

    Attributes:
        name: such as ``aten.add.Tensor`` or ``sym.mul``.
        kind: what it does.
        guard: called with the arguments (tensors may be on the meta device), returns why they are refused.
        composite: PyTorch computes it from other operators; Plans that fedplan traces never hold it.
    """

    name: str
    kind: Kind
    guard: Guard | None = None
    composite: bool = False

    @property
    def call(self) -> Callable[..., Any]:
        """The function that computes it."""
        if self.kind is Kind.SIZE:
            return _SIZE_FUNCTIONS[self.name]
        if self.name in KERNELS:
            return KERNELS[self.name].call
        if self.name in EXECUTORS:
            return EXECUTORS[self.name].call
        return _side_by_side(self.name) if self.name in _TRUST_STRIDES else overload(self.name)

    @property
    def arguments(self) -> tuple["Argument", ...]:
        """What it takes, in order. Where a tensor is placed (device, layout) is not a Plan's business."""
        return _arguments(self.name)

    def refuse(self, args: Sequence[Any], results: int) -> str | None:
        """Why it may not be called with these arguments for so many results; None when it may."""
        refusal = self.guard(args) if self.guard else None
        count = RESULT_COUNTS.get(self.name)
        if refusal is None and count and (made := count(args)) > results:
            refusal = f"it would make {made} values instead of {results}"
        return refusal


@dataclasses.dataclass(frozen=True, slots=True)
class Argument:
    """One argument of an operation, as PyTorch's schema has it.

    Attributes:
        name: its name.
        type: such as ``Tensor``, ``Optional[Tensor]``, ``List[int]``, ``number``, ``ScalarType`` (a dtype).
        keyword: it can only be given by name.
        default: its value when left out.
        required: it cannot be left out.
    """

    name: str
    type: str
    keyword: bool = False
    default: object = None
    required: bool = True


_PLACEMENT = frozenset({"layout", "device", "pin_memory", "memory_format", "non_blocking"})


@functools.cache
def _arguments(name: str) -> tuple[Argument, ...]:
    if name in _SIZE_FUNCTIONS:
        counts = {"sym.neg": 1, "sym.float": 1, "aten.sym_numel.default": 1}
        return tuple(Argument(f"operand{i}", "number") for i in range(counts.get(name, 2)))
    if name in KERNELS:
        return tuple(Argument(argument, "Tensor") for argument in KERNELS[name].arguments)
    operator = overload(EXECUTORS[name].stands_for.operator if name in EXECUTORS else name)
    return tuple(
        Argument(a.name, str(a.real_type), a.kwarg_only, a.default_value, not a.has_default_value())
        for a in operator._schema.arguments
        if a.name not in _PLACEMENT
    )


@functools.cache
def takes_device(name: str) -> bool:
    """Whether the operation makes tensors from nothing and so must be told where."""
    return (
        name.startswith("aten.")
        and name not in _SIZE_FUNCTIONS
        and any(a.name == "device" for a in overload(name)._schema.arguments)
        and row(name).kind is Kind.CREATE
        and not name.removesuffix(".default").endswith("_like")
    )


@functools.cache
def overload(name: str) -> "torch._ops.OpOverload":
    """PyTorch's operator of a name like ``aten.add.Tensor`` or ``fedplan.lstm.default``.

    Raises:
        UnsupportedOpError: this PyTorch has no such operator.
    """
    namespace, packet, variant = name.split(".")
    try:
        found: torch._ops.OpOverload = getattr(getattr(getattr(torch.ops, namespace), packet), variant)
    except AttributeError:
        raise UnsupportedOpError(name, instead=f"PyTorch {torch.__version__} does not have it.") from None
    return found


_TRUST_STRIDES = frozenset(("aten.native_group_norm.default", "aten.native_group_norm_backward.default"))
"""Operations whose kernels read tensors as if their elements lay side by side in memory, in order.

Autograd sees to that before it calls them; a Plan's tensors have the strides that its views gave them."""


@functools.cache
def _side_by_side(name: str) -> Callable[..., Any]:
    kernel = overload(name)

    def call(*args: Any, **options: Any) -> Any:
        return kernel(*(a.contiguous() if isinstance(a, torch.Tensor) else a for a in args), **options)

    return call


def _exact(value: int | float) -> int | float:
    if not isinstance(value, int | float):  # Python's operators would also join texts and repeat lists
        raise TypeError(f"{type(value).__name__} is not a number")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise OverflowError("a size does not fit into 64 bits")
    return value


def _arithmetic(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *numbers: _exact(function(*map(_exact, numbers)))


_SIZE_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "sym.add": _arithmetic(operator.add),
    "sym.sub": _arithmetic(operator.sub),
    "sym.mul": _arithmetic(operator.mul),
    "sym.floordiv": _arithmetic(operator.floordiv),
    "sym.mod": _arithmetic(operator.mod),
    "sym.truediv": _arithmetic(operator.truediv),
    "sym.neg": _arithmetic(operator.neg),
    "sym.max": _arithmetic(max),
    "sym.min": _arithmetic(min),
    "sym.float": _arithmetic(float),
}

_SIZE_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **_SIZE_ARITHMETIC,
    "aten.sym_size.int": lambda tensor, dim: tensor.shape[dim],
    "aten.sym_numel.default": lambda tensor: tensor.numel(),
}

_ROWS: Mapping[Kind, str] = {
    Kind.POINTWISE: """
        abs.default acos.default acosh.default add.Scalar add.Tensor addcdiv.default addcmul.default
        asin.default asinh.default atan.default atan2.default atanh.default
        bitwise_and.Scalar bitwise_and.Tensor bitwise_not.default bitwise_or.Scalar bitwise_or.Tensor
        bitwise_xor.Scalar bitwise_xor.Tensor
        ceil.default clamp.default clamp.Tensor cos.default cosh.default
        div.Scalar div.Scalar_mode div.Tensor div.Tensor_mode
        elu.default elu_backward.default eq.Scalar eq.Tensor erf.default exp.default expm1.default
        floor.default fmod.Scalar fmod.Tensor ge.Scalar ge.Tensor gelu.default gelu_backward.default
        gt.Scalar gt.Tensor hardtanh.default hardtanh_backward.default isinf.default isnan.default
        le.Scalar le.Tensor leaky_relu.default leaky_relu_backward.default lerp.Scalar lerp.Tensor
        log.default log10.default log1p.default log2.default
        logical_and.default logical_not.default logical_or.default logical_xor.default
        lt.Scalar lt.Tensor maximum.default minimum.default mse_loss_backward.default
        mul.Scalar mul.Tensor ne.Scalar ne.Tensor neg.default
        pow.Scalar pow.Tensor_Scalar pow.Tensor_Tensor reciprocal.default relu.default
        remainder.Scalar remainder.Tensor round.default rsqrt.default rsub.Scalar rsub.Tensor
        sigmoid.default sigmoid_backward.default sign.default silu.default silu_backward.default
        sin.default sinh.default sqrt.default sub.Scalar sub.Tensor
        tan.default tanh.default tanh_backward.default threshold_backward.default
        trunc.default where.self where.ScalarSelf where.ScalarOther _to_copy.default""",
    Kind.REDUCTION: """
        all.default all.dim amax.default amin.default any.default any.dim any.dims argmax.default
        argmin.default cumsum.default linalg_vector_norm.default max.default max.dim mean.default
        mean.dim min.default min.dim mse_loss.default nll_loss_forward.default prod.default
        prod.dim_int sort.default sum.default sum.dim_IntList topk.default var.correction""",
    Kind.VIEW: """
        diagonal.default expand.default permute.default reshape.default select.int slice.Tensor
        split.Tensor split_with_sizes.default squeeze.default squeeze.dim squeeze.dims transpose.int
        unbind.int unsqueeze.default""",
    Kind.MATMUL: "addmm.default bmm.default mm.default",
    Kind.CONVOLUTION: "convolution.default convolution_backward.default",
    Kind.NORMALISATION: """
        _log_softmax.default _log_softmax_backward_data.default _softmax.default
        _softmax_backward_data.default native_layer_norm.default native_layer_norm_backward.default
        _native_batch_norm_legit_functional.default _native_batch_norm_legit.no_stats
        _native_batch_norm_legit_no_training.default native_batch_norm_backward.default
        native_group_norm.default native_group_norm_backward.default""",
    Kind.INDEX: """
        embedding.default embedding_dense_backward.default gather.default index.Tensor index_put.default
        index_select.default nll_loss_backward.default scatter.src scatter.value scatter_add.default
        select_scatter.default slice_scatter.default""",
    Kind.POOL: """
        _adaptive_avg_pool2d.default _adaptive_avg_pool2d_backward.default adaptive_avg_pool1d.default
        avg_pool1d.default avg_pool2d.default avg_pool2d_backward.default
        max_pool2d_with_indices.default max_pool2d_with_indices_backward.default""",
    Kind.CREATE: """
        arange.start_step cat.default constant_pad_nd.default eye.default flip.default full.default
        full_like.default ones_like.default repeat.default scalar_tensor.default stack.default
        zeros_like.default""",
    Kind.SIZE: "",
}

_COMPOSITE_ROWS: Mapping[Kind, str] = {
    Kind.REDUCTION: """
        binary_cross_entropy_with_logits.default cross_entropy_loss.default dot.default norm.Scalar
        norm.ScalarOpt_dim""",
    Kind.VIEW: "chunk.default flatten.using_ints t.default",
    Kind.MATMUL: "linear.default matmul.default",
    Kind.CONVOLUTION: "conv2d.default",
    Kind.NORMALISATION: "log_softmax.int softmax.int",
    Kind.INDEX: "one_hot.default",
    Kind.POOL: "max_pool2d.default",
}


def _table() -> dict[str, Op]:
    table = {}
    for rows, composite in ((_ROWS, False), (_COMPOSITE_ROWS, True)):
        for kind, names in rows.items():
            for short in names.split():
                name = f"aten.{short}"
                table[name] = Op(name, kind, GUARDS.get(name), composite)
    for made in RECURRENCES.values():
        table[made.operator] = Op(made.operator, Kind.RECURRENCE, functools.partial(refusal, made))
    return table | {name: Op(name, Kind.SIZE) for name in _SIZE_FUNCTIONS}


OPS: Mapping[str, Op] = _table()
"""Every operation that a Plan may hold, by name."""

DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool", "bfloat16"
    )
}  # fmt: skip
"""The dtypes that a Plan's values may have, by the names that travel."""


EXECUTOR_OPS: Mapping[str, Op] = {
    "aten.addmv.default": Op("aten.addmv.default", Kind.MATMUL),
    **{name: Op(name, Kind.RECURRENCE) for name in EXECUTORS},
    **{name: Op(name, Kind.VIEW if kernel.view else Kind.MATMUL) for name, kernel in KERNELS.items()},
}
"""Operations that an executor may put in place of others. No Plan can hold them."""


def row(name: str) -> Op:
    """The row of an operation in a graph that is verified, and maybe rewritten for an executor."""
    return EXECUTOR_OPS.get(name) or lookup(name)


def dtype_name(dtype: torch.dtype) -> str:
    """The name under which a dtype travels, such as ``float32``."""
    return str(dtype).removeprefix("torch.")


def lookup(name: str, source: str | None = None) -> Op:
    """The row of an operation.

    Raises:
        UnsupportedOpError: the table has no such row; `source` is repeated in its message.
    """
    found = OPS.get(name)
    if found is None:
        raise UnsupportedOpError(name, source=source, instead=_INSTEAD.get(".".join(name.split(".")[:2])))
    return found


READS_VALUE = "aten._local_scalar_dense"
"""The operation that moves a tensor's value into Python."""

_CHANCE = (
    "A Plan gives the same result for the same inputs. Leave dropout out of the traced model "
    "(`model.eval()`, or p=0), or pass the random numbers in as an input."
)
DEPENDS_ON_VALUES = (
    "Its result, or the shape of its result, depends on values read into Python, which a Plan cannot do. "
    "Use `torch.where` or a product with a mask."
)

_INSTEAD: Mapping[str, str] = {
    **dict.fromkeys(
        ("aten.native_dropout", "aten.bernoulli", "aten.rand", "aten.randn", "aten.rand_like",
         "aten.randn_like", "aten.randint", "aten.randperm", "aten.multinomial", "aten.normal",
         "aten.uniform", "aten.exponential"),
        _CHANCE,
    ),
    **dict.fromkeys(
        ("aten.nonzero", "aten.masked_select", "aten._unique2", "aten.unique_dim"), DEPENDS_ON_VALUES
    ),
    READS_VALUE: (
        "It reads a tensor's value into Python (`.item()`, `float(t)`, `if t > 0`), and a Plan has no "
        "Python. Keep it a tensor: `torch.where` in place of `if`."
    ),
    "aten.as_strided": "It reads memory under another layout. Use reshape, permute or slicing.",
    "aten.mkldnn_rnn_layer": "Unroll the recurrence with nn.LSTMCell or nn.GRUCell.",
}  # fmt: skip
