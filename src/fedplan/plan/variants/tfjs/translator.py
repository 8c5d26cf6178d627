"""What a rule of translation works with: the graph's shapes, and terms for its values."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from fedplan.errors import TranslationError
from fedplan.plan.ir.graph import Arg, Graph, Node, Ref
from fedplan.plan.run.interpreter import run_node
from fedplan.plan.variants.tfjs.emitter import Argument, Emitter, Term


class Varying(NamedTuple):
    """An extent that depends on the batch size: what it is for a small and for a large batch."""

    small: int
    large: int


Extent = int | Varying
Operand = Term | int | float | bool
"""A tensor, or a number that stands in the Plan itself."""

_CHOSEN = 4
FOLDED = 4
"""The most dimensions in which WebGL pads and takes every n-th element."""
_LITTLE = 2**16

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
        used: numbers of the values that an operation reads or the graph returns.
        makers: by a value's number, the operation that makes it.
        known: values that are the same in every run, by number, where there are few numbers in them.
    """

    def __init__(self, graph: Graph, small: Mapping[int, Any], large: Mapping[int, Any]) -> None:
        """Starts a translation.

        Args:
            graph: what is translated.
            small: every value of the graph for a small batch: tensors on the meta device, sizes as numbers.
            large: the same for a large batch; extents that differ are those that vary.
        """
        super().__init__()
        self.values: dict[int, Operand | None] = {}
        self.used = {n for node in graph.nodes for n in node.refs()}.union(graph.outputs)
        self.makers = {number: node for node in graph.nodes for number in node.results}
        self.known: dict[int, Any] = dict(graph.constants)
        self._small, self._large = small, large

    # -- what is known of a value ----------------------------------------------------------------------

    def shape(self, arg: Arg | int) -> tuple[Extent, ...]:
        """The extents of a value; a number has none."""
        if not isinstance(arg, Ref) or not isinstance(self._small[arg.id], torch.Tensor):
            return ()
        small, large = self._small[arg.id].shape, self._large[arg.id].shape
        return tuple(a if a == b else Varying(a, b) for a, b in zip(small, large, strict=True))

    def extent(self, arg: Arg) -> Extent:
        """A size: a number, or what it is for a small and for a large batch."""
        if not isinstance(arg, Ref):
            return integer(arg)
        small, large = self._small[arg.id], self._large[arg.id]
        if not isinstance(small, int) or not isinstance(large, int):
            raise UnsayableError("It has a fraction, or a tensor, where a size is needed.")
        return small if small == large else Varying(small, large)

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

    def note(self, node: Node) -> None:
        """Computes what an operation makes of numbers that stand in the Plan, as far as that is little."""
        results = [self._small[number] for number in node.results]
        little = all(isinstance(value, torch.Tensor) and value.numel() <= _LITTLE for value in results)
        if little and all(number in self.known for number in node.refs()):
            made = run_node(node, self.known, torch.device("cpu"))
            self.known.update(zip(node.results, made, strict=True))

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

    # -- axes ------------------------------------------------------------------------------------------

    def transpose(self, term: Term, order: Sequence[int]) -> Term:
        """The term with its axes in another order; two transpositions are one, one to the same order none."""
        made = self.made.get(term.id)
        if made is not None and made.command == "transpose" and isinstance(made.args[0], Term):
            inner = integers_of(made.args[1])
            term, order = made.args[0], [inner[axis] for axis in order]
        if list(order) == [*range(len(order))]:
            return term
        return self.call("transpose", term, tuple(order))

    def pad(
        self, term: Term, shape: Sequence[Extent], pairs: Sequence[tuple[int, int]], filler: Operand = 0.0
    ) -> Term:
        """More elements around a tensor of a shape, a pair of numbers for each axis.

        What is transposed is padded before, so that others may share it. WebGL pads four dimensions at most.
        """
        touched = [axis for axis, pair in enumerate(pairs) if any(pair)]
        if not touched:
            return term
        made = self.made.get(term.id)
        if made is not None and made.command == "transpose" and isinstance(made.args[0], Term):
            inner, order = made.args[0], integers_of(made.args[1])
            places = [order.index(axis) for axis in range(len(order))]
            moved = self.pad(inner, [shape[i] for i in places], [pairs[i] for i in places], filler)
            return self.transpose(moved, order)
        if len(pairs) <= FOLDED:
            return self.call("pad", term, tuple(pairs), filler)
        axis, (before, after) = touched[0], pairs[touched[0]]
        extent = shape[axis]
        if isinstance(extent, Varying):
            raise UnsayableError("It pads the batch of a tensor of more than four dimensions.")
        folded = self.reshape(term, fold(shape, axis))
        wide = [*shape[:axis], extent + before + after, *shape[axis + 1 :]]
        term = self.reshape(self.call("pad", folded, ((0, 0), (before, after), (0, 0)), filler), wide)
        return self.pad(term, wide, [(0, 0) if i == axis else pair for i, pair in enumerate(pairs)], filler)

    def where(self, condition: Term, left: Term, right: Term, shape: Sequence[Extent]) -> Term:
        """A choice between two tensors of a shape; WebGL chooses in no more than four dimensions."""
        if len(shape) <= _CHOSEN:
            return self.call("where", condition, left, right)
        lines = (self.call("reshape", term, (-1,)) for term in (condition, left, right))
        return self.reshape(self.call("where", *lines), shape)

    def join(self, terms: Sequence[Term], axis: int) -> Term:
        """The terms one behind the other. syft.js finds no tensors inside of a list, so it is two by two."""
        joined = terms[0]
        for term in terms[1:]:
            joined = self.method(joined, "concat", term, axis)
        return joined

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
        """Zeros of a shape of which extents vary: as many rows as values have that exist already."""
        for number, term in self.values.items():
            if isinstance(term, Term) and self.shape(Ref(number)) == tuple(shape):
                zeros = self.call("zerosLike", term)
                return zeros if self.dtype(Ref(number)) == dtype else self.call("cast", zeros, dtype)
        varying = [axis for axis, extent in enumerate(shape) if isinstance(extent, Varying)]
        static = tuple(1 if isinstance(extent, Varying) else extent for extent in shape)
        total: Term | None = None
        for axis in varying:
            column = self.call("cast", self.call("zerosLike", self.lane(shape[axis])), dtype)
            column = self.reshape(column, [extent if i == axis else 1 for i, extent in enumerate(shape)])
            total = column if total is None else self.call("add", total, column)
        assert total is not None  # an extent varies
        return total if math.prod(static) == 1 else self.call("add", total, self.call("zeros", static, dtype))

    def lane(self, extent: Extent) -> Term:
        """Some values in a row, as many as the extent: cut from a value that has them.

        Raises:
            UnsayableError: no earlier value has as many.
        """
        if not isinstance(extent, Varying):
            return self.call("zeros", (extent,))
        terms = [(self.shape(Ref(n)), term) for n, term in self.values.items() if isinstance(term, Term)]
        for shape, term in terms:
            if extent in shape:
                axis = shape.index(extent)
                return self.reshape(self.cut(term, shape, axis), [extent])
        for shape, term in terms:
            whole = product(shape)
            behind, over = divmod(whole.small, extent.small) if isinstance(whole, Varying) else (0, 0)
            if behind and not over and whole == Varying(behind * extent.small, behind * extent.large):
                rows = self.call("reshape", term, (-1, behind))
                return self.reshape(self.cut(rows, (extent, behind), 0), [extent])
        raise UnsayableError("No earlier value has as many rows as its result.")

    def counted(self, extent: Extent, dtype: str = "int32") -> Term:
        """The numbers 0, 1, 2 … in a row, as many as the extent."""
        if not isinstance(extent, Varying):
            return self.call("range", 0, extent, 1, dtype)
        ones = self.call("cast", self.call("onesLike", self.lane(extent)), dtype)
        return self.call("cumsum", ones, 0, True)

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

    def size(self, extent: Extent) -> Term:
        """An extent as a number."""
        if not isinstance(extent, Varying):
            return self.call("scalar", extent, "int32")
        return self.call("cast", self.call("sum", self.call("onesLike", self.lane(extent))), "int32")

    def broadcast(self, term: Term, shape: Sequence[Extent], dtype: str) -> Term:
        """The term repeated to a shape."""
        if dtype == "bool":
            return self.call("cast", self.broadcast(self.call("cast", term, "int32"), shape, "int32"), "bool")
        return self.call("add", term, self.full(shape, 0, dtype))


def product(shape: Sequence[Extent]) -> Extent:
    """How many elements a shape has."""
    small, large = (
        math.prod(extent[batch] if isinstance(extent, Varying) else extent for extent in shape)
        for batch in (0, 1)
    )
    return small if small == large else Varying(small, large)


def shifted(extent: Extent, by: int) -> Extent:
    """An extent and a number more."""
    return Varying(extent.small + by, extent.large + by) if isinstance(extent, Varying) else extent + by


def fold(shape: Sequence[Extent], axis: int) -> tuple[Extent, Extent, Extent]:
    """A shape of three dimensions: what is before an axis, the axis, and what is behind it."""
    return product(shape[:axis]), shape[axis], product(shape[axis + 1 :])


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


def axis_of(dim: Arg, shape: Sequence[Extent]) -> int:
    """A dimension of an argument, counted from the front."""
    return integer(dim) % max(len(shape), 1)


def integer(arg: Arg) -> int:
    """An argument that must be a number that stands in the Plan."""
    if not isinstance(arg, int):
        raise UnsayableError("It has a size that depends on the batch where tfjs needs a number.")
    return arg


def integers_of(argument: Argument) -> tuple[int, ...]:
    """A list of numbers among the arguments of an action."""
    assert isinstance(argument, tuple)
    return tuple(number for number in argument if isinstance(number, int))


def integers(arg: Arg) -> tuple[int, ...]:
    """An argument that must be a list of numbers."""
    if not isinstance(arg, tuple) or isinstance(arg, Ref):
        raise UnsayableError("It has something else where tfjs needs a list of numbers.")
    return tuple(map(integer, arg))
