"""Rows for pictures, series and volumes of another size, and for what lies between their elements."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from fedplan.plan.ops import guards
from fedplan.plan.ops.op import SAME, Kind, Op, Words, op

_row = functools.partial(op, Kind.SAMPLING)

_EXACT = "@nearest_exact({self}, {output_size}, annotate(List[Optional[float]], [%s]))"
_EXACT_BACKWARD = (
    "@nearest_exact_backward({grad_output}, {input_size}, annotate(List[Optional[float]], [%s]))"
)
_SCALES = {"1d": "{scales}", "2d": "{scales_h}, {scales_w}", "3d": "{scales_d}, {scales_h}, {scales_w}"}


def _resized(name: str, rank: int, **words: str | None) -> Iterator[Op]:
    """A kind of interpolation, and its gradient."""
    yield _row(
        f"{name}.default",
        shapes=lambda value, size, *_, **__: value.new_empty([*value.shape[:2], *size]),
        torchscript=words.get("forward", SAME),
    )
    yield _row(
        f"{name}_backward.default",
        guard=guards.resized_backward(rank),
        shapes=lambda gradient, size, given, *_, **__: gradient.new_empty(given),
        torchscript=words.get("backward", SAME),
    )


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
    *_resized("_upsample_bicubic2d_aa", 2, forward=None, backward=None),
    *_resized("_upsample_bilinear2d_aa", 2, forward=None, backward=None),
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
