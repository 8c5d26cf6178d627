"""What convolutions and pools have in common: a window that moves over a picture.

tfjs wants pictures as (batch, height, width, channels), PyTorch has the channels second.
"""

import dataclasses
from collections.abc import Callable

from fedplan.plan.ir.graph import Arg
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import (
    Extent,
    Translator,
    UnsayableError,
    Varying,
    integer,
    integers,
)

Pair = tuple[int, int]
"""Vertical and horizontal."""

_CHANNELS_LAST = (0, 2, 3, 1)
_CHANNELS_SECOND = (0, 3, 1, 2)


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """How a window moves over a picture.

    Attributes:
        size: of the window, in elements.
        stride: between two of its places.
        padding: zeros around the picture.
        dilation: between two of its elements.
        picture: height and width of the picture.
        places: how many places it has, vertically and horizontally.
    """

    size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    picture: Pair
    places: Pair

    @property
    def reach(self) -> Pair:
        """Elements from the first to the last one under the window."""
        return each(lambda axis: self.dilation[axis] * (self.size[axis] - 1) + 1)

    @property
    def span(self) -> Pair:
        """Elements from the first place's corner to the last one's."""
        return each(lambda axis: self.stride[axis] * (self.places[axis] - 1) + 1)

    @property
    def padded(self) -> Pair:
        """Height and width of the picture with its padding."""
        return each(lambda axis: self.picture[axis] + 2 * self.padding[axis])


def each(number: Callable[[int], int]) -> Pair:
    """The number for the vertical axis and that for the horizontal one."""
    return number(0), number(1)


def pair(arg: Arg, default: Pair | None = None) -> Pair:
    """An argument that is one number for both axes, or one for each; the default for an empty list."""
    if arg == () and default is not None:
        return default
    numbers = (arg,) if isinstance(arg, int) else integers(arg)
    return (integer(numbers[0]), integer(numbers[-1]))


def plane(shape: tuple[Extent, ...]) -> Pair:
    """Height and width of a (batch, channels, height, width) shape."""
    if len(shape) != 4:
        raise UnsayableError("Only pictures of the shape (batch, channels, height, width) can be said.")
    height, width = shape[2:]
    if isinstance(height, Varying) or isinstance(width, Varying):
        raise UnsayableError("The size of its pictures depends on the batch size.")
    return height, width


def channels_of(shape: tuple[Extent, ...]) -> int:
    """The channels of a (batch, channels, height, width) shape."""
    if isinstance(shape[1], Varying):
        raise UnsayableError("The number of its channels depends on the batch size.")
    return shape[1]


def channels_last(t: Translator, arg: Arg) -> Term:
    """A picture as tfjs wants it."""
    return t.call("transpose", t.tensor(arg, "float32"), _CHANNELS_LAST)


def channels_second(t: Translator, term: Term) -> Term:
    """A picture as PyTorch has it."""
    return t.call("transpose", term, _CHANNELS_SECOND)


def framed(t: Translator, term: Term, before: Pair, after: Pair, filler: float = 0.0) -> Term:
    """A picture with more rows and columns around it."""
    if not any((*before, *after)):
        return term
    pads = ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0))
    return t.call("pad", term, pads, filler)


def corner(t: Translator, term: Term, start: Pair, size: Pair) -> Term:
    """A part of a picture."""
    return t.call("slice", term, (0, *start, 0), (-1, *size, -1))


def spread_out(t: Translator, term: Term, stride: Pair, places: Pair, channels: int) -> Term:
    """A picture with zeros between its elements: as many as make it one element a stride apart."""
    rows, columns = places
    if stride[0] > 1:
        lines = t.call("reshape", term, (-1, 1, columns * channels))
        lines = t.call("pad", lines, ((0, 0), (0, stride[0] - 1), (0, 0)), 0.0)
        rows = places[0] * stride[0]
        term = t.call("reshape", lines, (-1, rows, columns, channels))
    if stride[1] > 1:
        points = t.call(
            "pad", t.call("reshape", term, (-1, 1, channels)), ((0, 0), (0, stride[1] - 1), (0, 0)), 0.0
        )
        columns = places[1] * stride[1]
        term = t.call("reshape", points, (-1, rows, columns, channels))
    if stride == (1, 1):
        return term
    return corner(t, term, (0, 0), each(lambda axis: stride[axis] * (places[axis] - 1) + 1))
