"""What convolutions and pools have in common: pictures, and windows that move over them.

tfjs wants pictures as (batch, *extents, channels), PyTorch has the channels second.
"""

from collections.abc import Sequence

from fedplan.plan.ir.graph import Arg
from fedplan.plan.variants.expansions.windows import Sizes, Window
from fedplan.plan.variants.expansions.windows import each as for_each
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import Extent, Translator, UnsayableError, Varying, integers


def each(arg: Arg, rank: int, default: Sizes = ()) -> Sizes:
    """An argument that is one number for all extents, or one for each; the default for an empty list."""
    return for_each((arg,) if isinstance(arg, int) else integers(arg), rank, default)


def extents(shape: Sequence[Extent], rank: int) -> Sizes:
    """The extents of a picture of the shape (batch, channels, *extents)."""
    if len(shape) != rank + 2:
        raise UnsayableError(f"Only pictures of the shape (batch, channels, {rank} extents) can be said.")
    known = tuple(extent for extent in shape[2:] if not isinstance(extent, Varying))
    if len(known) != rank:
        raise UnsayableError("The size of its pictures depends on the batch size.")
    return known


def channels_last(t: Translator, term: Term, rank: int) -> Term:
    """A picture as tfjs wants it."""
    return t.transpose(term, (0, *range(2, rank + 2), 1))


def channels_second(t: Translator, term: Term, rank: int) -> Term:
    """A picture as PyTorch has it."""
    return t.transpose(term, (0, rank + 1, *range(1, rank + 1)))


def framed(t: Translator, term: Term, shape: Sequence[Extent], window: Window, filler: float = 0.0) -> Term:
    """A picture as PyTorch has it, with the window's padding, and with what it reaches behind that."""
    pairs = zip(window.padding, window.beyond, strict=True)
    around = ((0, 0), (0, 0), *((before, before + beyond) for before, beyond in pairs))
    return t.pad(term, shape, around, filler)


_BATCH_AND_CHANNELS = 0b11
"""Axes of a (batch, channels, *extents) tensor that a strided slice takes whole."""


def beneath(t: Translator, frame: Term, window: Window, tap: Sizes) -> Term:
    """For each place of the window, the element of the framed picture under one of the window's elements."""
    begin = tuple(element * dilation for element, dilation in zip(tap, window.dilation, strict=True))
    end = tuple(first + span for first, span in zip(begin, window.span, strict=True))
    whole = _BATCH_AND_CHANNELS
    return t.call("stridedSlice", frame, (0, 0, *begin), (0, 0, *end), (1, 1, *window.stride), whole, whole)
