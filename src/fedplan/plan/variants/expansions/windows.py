"""What the expansions of convolutions and pools have in common: a window that moves over a picture.

A picture is a tensor of the shape (batch, channels, *extents), with one to three extents.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Sizes = tuple[int, ...]
"""One number for each extent of a picture."""


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """How a window moves over a picture.

    Attributes:
        size: of the window, in elements.
        stride: between two of its places.
        padding: around the picture.
        dilation: between two of its elements.
        picture: the extents of the picture.
        places: how many places the window has along each of them.
    """

    size: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    picture: Sizes
    places: Sizes

    @property
    def taps(self) -> Iterator[Sizes]:
        """The elements of the window, each by its place in it, in order."""
        return itertools.product(*map(range, self.size))

    @property
    def span(self) -> Sizes:
        """Elements from the first place's corner to the last one's."""
        return tuple(
            stride * (places - 1) + 1 for stride, places in zip(self.stride, self.places, strict=True)
        )

    @property
    def reach(self) -> Sizes:
        """Elements from the window's first element to its last one."""
        return tuple(
            dilation * (size - 1) + 1 for dilation, size in zip(self.dilation, self.size, strict=True)
        )

    @property
    def beyond(self) -> Sizes:
        """Elements behind picture and padding that the last place reaches, when places are rounded up."""
        axes = zip(self.span, self.reach, self.picture, self.padding, strict=True)
        return tuple(max(span + reach - 1 - x - 2 * padding, 0) for span, reach, x, padding in axes)


def each(numbers: Sequence[int], rank: int, default: Sequence[int] = ()) -> Sizes:
    """Numbers for every extent, of an argument that may be one number for all, or empty for the default."""
    given = tuple(numbers) or tuple(default)
    return given * rank if len(given) == 1 else given


def pad(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """More elements around a picture; fewer where a number is negative."""
    pairs = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
    return F.pad(x, pairs, value=value) if any(pairs) else x


def framed(x: Tensor, window: Window, value: float = 0.0) -> Tensor:
    """The picture with its padding, and with what the window reaches behind it."""
    after = [padding + more for padding, more in zip(window.padding, window.beyond, strict=True)]
    return pad(x, window.padding, after, value)


def beneath(frame: Tensor, window: Window, tap: Sizes) -> Tensor:
    """For each place of the window, the element of the framed picture that lies under one of its elements."""
    for axis, (element, dilation, stride, span) in enumerate(
        zip(tap, window.dilation, window.stride, window.span, strict=True)
    ):
        dim, begin = frame.dim() - len(tap) + axis, element * dilation
        if (begin, span, stride) != (0, frame.shape[dim], 1):
            frame = torch.ops.aten.slice.Tensor(frame, dim, begin, begin + span, stride)
    return frame


def returned(parts: Iterable[tuple[Sizes, Tensor]], window: Window) -> Tensor:
    """What each element of the window is owed, at every place, added up where it came from in the picture."""
    placed = []
    for tap, part in parts:
        axes = zip(tap, window.dilation, window.padding, strict=True)
        before = [element * dilation - padding for element, dilation, padding in axes]
        after = [x - b - span for x, b, span in zip(window.picture, before, window.span, strict=True)]
        placed.append(spread(part, window.stride, before, after))
    return sum(placed[1:], start=placed[0])


def spread(x: Tensor, stride: Sequence[int], before: Sequence[int], after: Sequence[int]) -> Tensor:
    """The picture's elements one stride apart, with zeros between, before and after them.

    Fewer elements before or after where those numbers are negative.
    """
    rank, behind = len(stride), list(after)
    for axis, step in enumerate(stride):
        dim = x.dim() - rank + axis
        if step > 1 and x.shape[dim] > 1:
            shape = [*x.shape[:dim], x.shape[dim] * step, *x.shape[dim + 1 :]]
            lines = x.reshape(-1, 1, math.prod(x.shape[dim + 1 :]))
            x = F.pad(lines, (0, 0, 0, step - 1)).reshape(shape)
            behind[axis] -= step - 1
    return pad(x, before, behind)


def known(x: Tensor, rank: int) -> bool:
    """Whether the extents of pictures are the same for every batch size."""
    return all(isinstance(extent, int) for extent in x.shape[-rank:])


def over(
    x: Tensor,
    made: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Window:
    """The window of a pool that made something of a picture."""
    rank = len(kernel_size)
    return Window(
        each(kernel_size, rank),
        each(stride, rank, kernel_size),
        each(padding, rank),
        each(dilation, rank),
        tuple(x.shape[-rank:]),
        tuple(made.shape[-rank:]),
    )


def moved(
    x: Tensor,
    rank: int,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    rounded_up: bool,
) -> Window:
    """The window of a pool over a picture, with as many places as PyTorch gives it."""
    size, around, apart = each(kernel_size, rank), each(padding, rank), each(dilation, rank)
    steps, picture = each(stride, rank, size), tuple(x.shape[-rank:])
    window = Window(size, steps, around, apart, picture, picture)
    places = []
    for extent, reach, step, beside in zip(picture, window.reach, steps, around, strict=True):
        free = extent + 2 * beside - reach
        count = (-(-free // step) if rounded_up else free // step) + 1
        if rounded_up and (count - 1) * step >= extent + beside:
            count -= 1  # a window begins in the picture or before it
        places.append(count)
    return dataclasses.replace(window, places=tuple(places))
