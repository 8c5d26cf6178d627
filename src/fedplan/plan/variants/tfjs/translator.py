"""What a rule of translation works with: the graph's shapes, and terms for its values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from fedplan.errors import TranslationError
from fedplan.plan.ir.graph import Arg, Node, Ref
from fedplan.plan.variants.tfjs.emitter import Emitter, Term


class Varying(NamedTuple):
    """An extent that depends on the batch size: what it is for a small and for a large batch."""

    small: int
    large: int


Extent = int | Varying
Operand = Term | int | float | bool
"""A tensor, or a number that stands in the Plan itself."""

Rule = Callable[["Translator", Node], "Term | int | float | tuple[Term | None, ...]"]
"""Translates one operation into terms: one for each result, or None for a result that it does not make."""


def tf_dtype(dtype: torch.dtype) -> str:
    """The dtype that a value has in tfjs, which knows three."""
    if dtype == torch.bool:
        return "bool"
    return "float32" if dtype.is_floating_point else "int32"


class Translator(Emitter):
    """One graph on its way into tfjs.

    Attributes:
        values: the terms of the graph's values, by number. A size that is the same for every batch is a
            number; a result that no rule makes is None.
    """

    def __init__(self, small: Mapping[int, Any], large: Mapping[int, Any]) -> None:
        """Starts a translation.

        Args:
            small: every value of the graph for a small batch: tensors on the meta device, sizes as numbers.
            large: the same for a large batch; extents that differ are those that vary.
        """
        super().__init__()
        self.values: dict[int, Operand | None] = {}
        self._small, self._large = small, large

    # -- what is known of a value ----------------------------------------------------------------------

    def shape(self, arg: Arg | int) -> tuple[Extent, ...]:
        """The extents of a value; a number has none."""
        if not isinstance(arg, Ref) or not isinstance(self._small[arg.id], torch.Tensor):
            return ()
        small, large = self._small[arg.id].shape, self._large[arg.id].shape
        return tuple(a if a == b else Varying(a, b) for a, b in zip(small, large, strict=True))

    def result_shape(self, node: Node, index: int = 0) -> tuple[Extent, ...]:
        """The extents of an operation's result."""
        return self.shape(Ref(node.results[index]))

    def dtype(self, arg: Arg) -> str:
        """The dtype of a value or a number, in tfjs."""
        if isinstance(arg, Ref) and isinstance(self._small[arg.id], torch.Tensor):
            return tf_dtype(self._small[arg.id].dtype)
        if isinstance(arg, bool):
            return "bool"
        return "int32" if isinstance(arg, int) else "float32"

    def result_dtype(self, node: Node, index: int = 0) -> str:
        """The dtype of an operation's result, in tfjs."""
        return self.dtype(Ref(node.results[index]))

    # -- arguments -------------------------------------------------------------------------------------

    def operand(self, arg: Arg, dtype: str | None = None) -> Operand:
        """A value or number, in a dtype if one is given."""
        if isinstance(arg, Ref):
            found = self.values[arg.id]
            if found is None:
                raise UnsayableError("It makes use of a result that has no form in tfjs.")
        elif isinstance(arg, bool | int | float):
            found = arg
        else:
            raise UnsayableError(f"It has {arg!r} where tfjs needs a tensor or a number.")
        if dtype is None or dtype == self.dtype(arg):
            return found
        if isinstance(found, Term):
            return self.call("cast", found, dtype)
        return float(found) if dtype == "float32" else int(found)

    def tensor(self, arg: Arg, dtype: str | None = None) -> Term:
        """A value, or a number made a tensor of no dimensions."""
        found = self.operand(arg, dtype)
        if isinstance(found, Term):
            return found
        return self.call("scalar", found, dtype or self.dtype(arg))

    # -- shapes ----------------------------------------------------------------------------------------

    def reshape(self, term: Term, shape: Sequence[Extent]) -> Term:
        """The term under another shape; the one extent that varies becomes what is left."""
        return self.call("reshape", term, self.written(shape))

    def written(self, shape: Sequence[Extent]) -> tuple[int, ...]:
        """A shape as a list of numbers, with -1 for the one extent that varies.

        Raises:
            UnsayableError: more than one does.
        """
        if sum(isinstance(extent, Varying) for extent in shape) > 1:
            raise UnsayableError(
                "Two extents of its result depend on the batch size; tfjs can leave out one."
            )
        return tuple(-1 if isinstance(extent, Varying) else extent for extent in shape)

    def full(self, shape: Sequence[Extent], value: float, dtype: str) -> Term:
        """A tensor of one value."""
        if not any(isinstance(extent, Varying) for extent in shape):
            return self.call("fill", self.written(shape), value, dtype)
        zeros = self._varying_zeros(shape, "int32" if dtype == "bool" else dtype)
        if value:
            zeros = self.call("add", zeros, self.call("scalar", value, "int32" if dtype == "bool" else dtype))
        return self.call("cast", zeros, "bool") if dtype == "bool" else zeros

    def _varying_zeros(self, shape: Sequence[Extent], dtype: str) -> Term:
        """Zeros of a shape of which one extent varies: as many rows as a value has that exists already."""
        self.written(shape)
        for number, term in self.values.items():
            if isinstance(term, Term) and self.shape(Ref(number)) == tuple(shape):
                zeros = self.call("zerosLike", term)
                return zeros if self.dtype(Ref(number)) == dtype else self.call("cast", zeros, dtype)
        place = next(i for i, extent in enumerate(shape) if isinstance(extent, Varying))
        column = self.call("cast", self._column(shape[place]), dtype)
        column = self.reshape(column, [extent if i == place else 1 for i, extent in enumerate(shape)])
        static = tuple(1 if i == place else extent for i, extent in enumerate(shape))
        return self.call("add", column, self.call("zeros", self.written(static), dtype))

    def _column(self, extent: Extent) -> Term:
        """Zeros, as many as the extent: cut from a value that has it."""
        for number, term in self.values.items():
            shape = self.shape(Ref(number))
            if isinstance(term, Term) and extent in shape:
                axis = shape.index(extent)
                return self.call("zerosLike", self.reshape(self.cut(term, shape, axis), [extent]))
        raise UnsayableError("No earlier value has as many rows as its result.")

    def cut(self, term: Term, shape: Sequence[Extent], axis: int) -> Term:
        """The first element along every other axis."""
        size = tuple(-1 if i == axis else 1 for i in range(len(shape)))
        return self.call("slice", term, (0,) * len(shape), size)

    def count(self, term: Term, shape: Sequence[Extent], axes: Sequence[int]) -> Operand:
        """How many elements there are along some axes: a number, or a term where that varies."""
        number: Operand = 1
        for axis in axes:
            extent = shape[axis]
            if isinstance(extent, Varying):
                rows = self.call("sum", self.call("onesLike", self.cut(term, shape, axis)))
                number = self.call("mul", self.call("cast", rows, "float32"), number)
            else:
                number = number * extent if not isinstance(number, Term) else self.call("mul", number, extent)
        return number

    def broadcast(self, term: Term, shape: Sequence[Extent], dtype: str) -> Term:
        """The term repeated to a shape."""
        if dtype == "bool":
            return self.call("cast", self.broadcast(self.call("cast", term, "int32"), shape, "int32"), "bool")
        return self.call("add", term, self.full(shape, 0, dtype))


class UnsayableError(Exception):
    """Why a rule cannot translate an operation; becomes a `TranslationError` with the author's line."""

    def error(self, node: Node) -> TranslationError:
        """The error for the author."""
        return TranslationError(node.op, "tfjs", source=node.source, why=str(self))


def axes_of(dims: Arg, rank: int) -> tuple[int, ...]:
    """Dimensions of an argument, counted from the front; all when none are given."""
    if dims is None or dims == ():
        return tuple(range(rank))
    given = dims if isinstance(dims, tuple) and not isinstance(dims, Ref) else (dims,)
    return tuple(integer(dim) % max(rank, 1) for dim in given)


def integer(arg: Arg) -> int:
    """An argument that must be a number that stands in the Plan."""
    if not isinstance(arg, int):
        raise UnsayableError("It has a size that depends on the batch where tfjs needs a number.")
    return arg


def integers(arg: Arg) -> tuple[int, ...]:
    """An argument that must be a list of numbers."""
    if not isinstance(arg, tuple) or isinstance(arg, Ref):
        raise UnsayableError("It has something else where tfjs needs a list of numbers.")
    return tuple(map(integer, arg))
