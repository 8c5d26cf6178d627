"""Rows for pictures, series and volumes of another size, and for what lies between their elements."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fedplan.plan.ops import guards
from fedplan.plan.ops.op import ELEMENT, SAME, Estimate, Kind, Op, Words, op

_row = functools.partial(op, Kind.SAMPLING)

_HUGE = 2.0**62

_EXACT = "@nearest_exact({self}, {output_size}, annotate(List[Optional[float]], [%s]))"
_EXACT_BACKWARD = (
    "@nearest_exact_backward({grad_output}, {input_size}, annotate(List[Optional[float]], [%s]))"
)
_SCALES = {"1d": "{scales}", "2d": "{scales_h}, {scales_w}", "3d": "{scales_d}, {scales_h}, {scales_w}"}


def _resized(
    name: str, rank: int, forward: str | None = SAME, backward: str | None = SAME, cost: "_Cost | None" = None
) -> Iterator[Op]:
    """A kind of interpolation, and its gradient, in the words of TorchScript."""
    cost = cost or _Cost()
    yield _row(
        f"{name}.default",
        shapes=lambda value, size, *_, **__: value.new_empty([*value.shape[:2], *size]),
        torchscript=forward,
        work=cost.work,
        scratch=cost.scratch,
    )
    yield _row(
        f"{name}_backward.default",
        guard=guards.resized_backward(rank),
        shapes=lambda gradient, size, given, *_, **__: gradient.new_empty(given),
        torchscript=backward,
        work=cost.work_backward,
    )


class _Cost(NamedTuple):
    """How much an interpolation costs, where that is not a few operations an element."""

    work: Estimate | None = None
    scratch: Estimate | None = None
    work_backward: Estimate | None = None


def _smoothed(name: str, reach: int) -> Iterator[Op]:
    """An interpolation of pictures under a filter as wide as the scale, and its gradient.

    The width is resized first, and then the height: the picture between has the old height and the new width.

    Args:
        name: of the operation.
        reach: elements to each side under the filter, of a picture that is not made smaller.
    """

    def taps(before: Sequence[int], after: Sequence[int], scales: Sequence[float | None]) -> list[int]:
        """For each dimension, the elements under the filter, also those beyond the edge."""
        pairs = zip(before, after, scales, strict=True)
        scaled = (1 / s if s is not None and s > 0 else b / max(a, 1) for b, a, s in pairs)
        return [2 * math.ceil(reach * min(max(scale, 1), _HUGE)) + 1 for scale in scaled]

    def scratch(args: Sequence[Any]) -> int:
        value, (height, width), _, *scales = args
        high, wide = taps(value.shape[2:], (height, width), scales)
        between = math.prod(value.shape[:3]) * width * value.element_size()
        return int(between + 8 * (height * high + width * wide))

    def work(args: Sequence[Any]) -> int:
        value, (height, width), _, *scales = args
        high, wide = taps(value.shape[2:], (height, width), scales)
        rows: int = math.prod(value.shape[:2]) * width * (value.shape[2] * wide + height * high)
        return ELEMENT * rows

    def work_backward(args: Sequence[Any]) -> int:
        gradient, size, before, _, *scales = args
        return ELEMENT * int(gradient.numel()) * math.prod(taps(before[2:], size, scales))

    return _resized(name, 2, None, None, _Cost(work, scratch, work_backward))


def _nearest_exact(rank: str) -> Iterator[Op]:
    """Torch 1.8 does not have it."""
    scales = _SCALES[rank]
    return _resized(
        f"_upsample_nearest_exact{rank}",
        int(rank[0]),
        forward=_EXACT % scales,
        backward=_EXACT_BACKWARD % scales,
    )


def _unless_cubic(words: str) -> Words:
    """Torch 1.7 leaves the result of bicubic sampling as memory was before."""

    def say(given: Mapping[str, Any]) -> str | None:
        return None if given["interpolation_mode"] == 2 else words

    return say


ROWS = (
    *_smoothed("_upsample_bicubic2d_aa", 2),
    *_smoothed("_upsample_bilinear2d_aa", 1),
    *_nearest_exact("1d"),
    *_nearest_exact("2d"),
    *_nearest_exact("3d"),
    _row(
        "grid_sampler_2d.default",
        guard=guards.grid_sampler(2),
        torchscript=_unless_cubic(
            "torch.grid_sampler_2d({input}, {grid}, {interpolation_mode}, {padding_mode}, {align_corners})"
        ),
    ),
    _row(
        "grid_sampler_2d_backward.default",
        guard=guards.grid_sampler_backward(2),
        torchscript=_unless_cubic(
            "@sampled_backward({grad_output}, {input}, {grid}, {interpolation_mode}, {padding_mode}, "
            "{align_corners})"
        ),
    ),
    _row("grid_sampler_3d.default", guard=guards.grid_sampler(3)),
    _row("grid_sampler_3d_backward.default", guard=guards.grid_sampler_backward(3), torchscript=None),
    *_resized("upsample_bicubic2d", 2),
    *_resized("upsample_bilinear2d", 2),
    *_resized("upsample_linear1d", 1),
    *_resized("upsample_nearest1d", 1),
    *_resized("upsample_nearest2d", 2),
    *_resized("upsample_nearest3d", 3),
    *_resized("upsample_trilinear3d", 3),
)
"""All of them."""
