"""What is known of an operation: one record, made by one row of the op table.

Arity, argument kinds and defaults come from PyTorch's own schema of the operator; shapes come from running it
on the meta device. Everything else that any part of fedplan needs to know of an operation is a field here.
"""

import dataclasses
import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import UnsupportedOpError
from fedplan.plan.ops.guards import Guard, ResultCount, Witness


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
    FACTOR = "factor"
    """Solves systems of equations, or takes matrices apart into factors."""
    INDEX = "index"
    """Reads or writes elements chosen by numbers."""
    POOL = "pool"
    SAMPLING = "sampling"
    """Values between the elements of pictures, series and volumes."""
    RECURRENCE = "recurrence"
    """A recurrent layer in one direction over all time steps, or its gradient."""
    CREATE = "create"
    """New values from sizes and numbers."""
    SIZE = "size"
    """Numbers about shapes; never tensors."""


class Trait(enum.Flag):
    """What an operation is like, beyond its kind."""

    NONE = 0
    COMPOSITE = enum.auto()
    """PyTorch computes it from other operators; only Plans made elsewhere, such as PySyft's, hold it."""
    FOREIGN = enum.auto()
    """Core ATen says it with other rows; only Plans made elsewhere hold it."""
    IN_PLACE = enum.auto()
    """PyTorch can write its result over its first argument: its name with a ``_`` does that, or its form with
    ``grad_input`` where it is a gradient."""
    DIRECT = enum.auto()
    """The function of that name in `torch`, in `torch.nn.functional`, or in `torch.Tensor`, takes the same
    arguments and is quicker to call."""
    LIST = enum.auto()
    """It returns a list, also when that has one element."""
    CHECKS_VALUES = enum.auto()
    """It can fail because of the numbers in a tensor, as every operation of `Kind.INDEX` can."""
    CONTIGUOUS = enum.auto()
    """Its kernel reads tensors as if their elements lay side by side in memory, in order. Autograd sees to
    that before it calls the kernel; a Plan's tensors have the strides that its views gave them."""
    HOLDS_TERMS = enum.auto()
    """A loss or a distance that holds its terms, one for each element of the operands' common shape, before
    it adds them."""
    ORDERS = enum.auto()
    """It puts each element next to its index, to sort them."""


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


Words = str | Callable[[Mapping[str, Any]], str | None]
"""How TorchScript says an operation: a text with ``{argument}`` for each argument of its schema, in which
``@name(`` calls a function of `fedplan.plan.variants.torchscript.library`; or which text, decided by the
arguments, None for none."""

ELEMENT = 20
"""Additions of a matrix product that take as long as one element that is fetched from memory."""

Estimate = Callable[[Sequence[Any]], int]

SAME = "same"
"""TorchScript has the operation, in torch 1.7 and in today's, with the same arguments in the same order."""

BY_PARTS = "by parts"
"""TorchScript says it with the operations of its expansion (`fedplan.plan.variants.expansions`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Op:
    """One row of the table.

    Attributes:
        name: such as ``aten.add.Tensor`` or ``sym.mul``.
        kind: what it does.
        traits: what it is like.
        guard: called with the arguments (tensors may be on the meta device), returns why they are refused.
        witness: the operation that must have run before, because it checks what this one trusts.
        kernel: the function that calls PyTorch's operator with what it may be called with.
        shapes: what the results are like, for arguments without data; where PyTorch does not know it.
        count: how many values it makes, where that depends on its arguments.
        torchscript: how TorchScript says it; None when it cannot.
        pysyft: names by which PySyft's op lists call it, besides its own.
        traced_as: other operators that the tracer records for it.
        work: called with the arguments (tensors on the meta device), returns the additions and
            multiplications, where its kind does not tell.
        scratch: called like `work`, returns the bytes that a kernel may take for itself.
        implementation: the function that computes it, where that is no operator of PyTorch.
        signature: its arguments, where it has an implementation.
    """

    name: str
    kind: Kind
    traits: Trait = Trait.NONE
    guard: Guard | None = None
    witness: Witness | None = None
    kernel: Callable[..., Any] | None = None
    shapes: Callable[..., Any] | None = None
    count: ResultCount | None = None
    torchscript: Words | None = SAME
    pysyft: tuple[str, ...] = ()
    traced_as: tuple[str, ...] = ()
    work: Estimate | None = None
    scratch: Estimate | None = None
    implementation: Callable[..., Any] | None = None
    signature: tuple[Argument, ...] = ()

    @property
    def packet(self) -> str:
        """The middle of its name: ``add`` of ``aten.add.Tensor``."""
        return self.name.split(".")[1]

    @property
    def call(self) -> Callable[..., Any]:
        """The function that computes it."""
        if self.implementation is not None:
            return self.implementation
        if self.kernel is not None:
            return self.kernel
        return _contiguous(self.name) if Trait.CONTIGUOUS in self.traits else overload(self.name)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """What it takes, in order. Where a tensor is placed (device, layout) is not a Plan's business."""
        return self.signature if self.implementation is not None else _arguments(self.name)

    @property
    def traced(self) -> bool:
        """Whether Plans that fedplan traces may hold it."""
        return not self.traits & (Trait.COMPOSITE | Trait.FOREIGN)

    @property
    def checks_values(self) -> bool:
        """Whether it can fail because of the numbers in a tensor."""
        return self.kind is Kind.INDEX or Trait.CHECKS_VALUES in self.traits

    @property
    def takes_device(self) -> bool:
        """Whether it makes tensors from nothing and so must be told where."""
        return self.kind is Kind.CREATE and self.implementation is None and _placed_freely(self.name)

    def refuse(self, args: Sequence[Any], results: int) -> str | None:
        """Why it may not be called with these arguments for so many results; None when it may."""
        refusal = self.guard(args) if self.guard else None
        if refusal is None and self.count and (made := self.count(args)) > results:
            refusal = f"it would make {made} values instead of {results}"
        return refusal


def op(
    kind: Kind, name: str, traits: Trait = Trait.NONE, *, pysyft: str = "", traced_as: str = "", **fields: Any
) -> Op:
    """A row for an operator of PyTorch.

    Args:
        kind: what it does.
        name: without the ``aten.`` before it.
        traits: what it is like.
        pysyft: names that PySyft has for it, between spaces.
        traced_as: other operators that the tracer records for it, between spaces.
        fields: of `Op`.
    """
    aliases = tuple(f"aten.{alias}" for alias in traced_as.split())
    return Op(f"aten.{name}", kind, traits, pysyft=tuple(pysyft.split()), traced_as=aliases, **fields)


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


_PLACEMENT = frozenset({"layout", "device", "pin_memory", "memory_format", "non_blocking"})


@functools.cache
def _arguments(name: str) -> tuple[Argument, ...]:
    return tuple(
        Argument(a.name, str(a.real_type), a.kwarg_only, a.default_value, not a.has_default_value())
        for a in overload(name)._schema.arguments
        if a.name not in _PLACEMENT
    )


@functools.cache
def _placed_freely(name: str) -> bool:
    like = name.removesuffix(".default").endswith("_like")
    return not like and any(a.name == "device" for a in overload(name)._schema.arguments)


@functools.cache
def _contiguous(name: str) -> Callable[..., Any]:
    kernel = overload(name)

    def call(*args: Any, **options: Any) -> Any:
        return kernel(*(a.contiguous() if isinstance(a, torch.Tensor) else a for a in args), **options)

    return call


def checked(name: str, values: Guard) -> Callable[..., Any]:
    """A kernel that takes numbers of tensors for places in memory, and is given only those that are.

    Args:
        name: the operation, without the ``aten.`` before it.
        values: called with the arguments before each run with data, returns why their values are refused.
    """

    def call(*args: Any, **options: Any) -> Any:
        refusal = None if args[0].is_meta else values(args)
        if refusal is not None:
            raise ValueError(refusal)
        return overload(f"aten.{name}")(*args, **options)

    return call
