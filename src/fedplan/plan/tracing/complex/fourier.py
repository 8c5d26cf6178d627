"""Fourier transforms, of real and imaginary parts, by products with small matrices.

A transform of n values is a product with an n × n matrix of sines and cosines. For n = a · b it is one of a
values, a turn of each, and one of b values (Cooley and Tukey, 1965), with matrices of a × a and b × b. The
matrices are made from numbers when a Plan is compiled, so they do not travel.
"""

import math
from collections.abc import Sequence

import torch

from fedplan.errors import UnsupportedOpError
from fedplan.plan.tracing import source

Parts = tuple[torch.Tensor, torch.Tensor | None]
"""Real and imaginary part; None for no imaginary part."""

Whole = tuple[torch.Tensor, torch.Tensor]

_WHOLE = 128
"""Up to so many values are transformed by one matrix."""

_LARGEST = 2048
"""So large may a factor be that has no factors itself."""

_FORWARD, _BACKWARD = -1, 1
"""The sign of the exponent."""

_BY_ROOT, _BY_COUNT = 1, 2
"""PyTorch's numbers for how a transform is scaled."""


def transformed(value: Whole, dims: Sequence[int], scaling: int, forward: bool) -> Whole:
    """Of complex values, along some dimensions (`aten._fft_c2c`)."""
    real, imaginary = value
    for dim in dims:
        real, imaginary = _along((real, imaginary), dim, _FORWARD if forward else _BACKWARD)
    return _scaled((real, imaginary), value[0], dims, scaling)


def of_real(value: torch.Tensor, dims: Sequence[int], scaling: int, onesided: bool) -> Whole:
    """Of real values; `onesided` leaves out the half that mirrors the other (`aten._fft_r2c`)."""
    *others, last = dims
    length = _length(value, last)
    made = _along((value, None), last, _FORWARD, length // 2 + 1 if onesided else length)
    for dim in others:
        made = _along(made, dim, _FORWARD)
    return _scaled(made, value, dims, scaling)


def to_real(value: Whole, dims: Sequence[int], scaling: int, length: int) -> torch.Tensor:
    """Back to so many real values, from the half of them that is no mirror of the other (`aten._fft_c2r`)."""
    *others, last = dims
    for dim in others:
        value = _along(value, dim, _BACKWARD)
    real, imaginary = (part.movedim(last, -1)[..., : length // 2 + 1] for part in value)
    made = _to_real(real, imaginary, length).movedim(-1, last)
    return _scaled((made, made), made, dims, scaling)[0]


def _to_real(real: torch.Tensor, imaginary: torch.Tensor, length: int) -> torch.Tensor:
    if length <= _WHOLE:
        cosine, sine = _matrix(real.shape[-1], length, length, real.dtype)
        places = torch.arange(real.shape[-1])
        once = (places == 0) | (places * 2 == length)  # these have no mirror
        weight = torch.where(once, 1.0, 2.0).to(real.dtype)
        return (real * weight) @ cosine - (imaginary * weight) @ sine
    mirrored = slice(1, length - real.shape[-1] + 1)
    whole = torch.cat([real, real[..., mirrored].flip(-1)], -1)
    turned = torch.cat([imaginary, -imaginary[..., mirrored].flip(-1)], -1)
    return _transform((whole, turned), _BACKWARD, length)[0]


def _scaled(made: Whole, value: torch.Tensor, dims: Sequence[int], scaling: int) -> Whole:
    count = math.prod(made[0].shape[dim] if made[0] is value else _length(value, dim) for dim in dims)
    if scaling not in (_BY_ROOT, _BY_COUNT):
        return made
    scale = 1 / math.sqrt(count) if scaling == _BY_ROOT else 1 / count
    return made[0] * scale, made[1] * scale


def _length(value: torch.Tensor, dim: int) -> int:
    length = value.shape[dim]
    if not isinstance(length, int):
        raise UnsupportedOpError(
            "aten.fft", source=source.here(), instead="Along the batch it would depend on the batch's size."
        )
    return length


def _along(value: Parts, dim: int, sign: int, wanted: int | None = None) -> Whole:
    """A transform along one dimension, of which the first `wanted` values are kept."""
    length = _length(value[0], dim)
    real, imaginary = (None if part is None else part.movedim(dim, -1) for part in value)
    assert real is not None
    made = _transform((real, imaginary), sign, length if wanted is None else wanted)
    return made[0].movedim(-1, dim), made[1].movedim(-1, dim)


def _transform(value: Parts, sign: int, wanted: int) -> Whole:
    """Along the last dimension."""
    length = value[0].shape[-1]
    rows = _factor(length)
    if length <= _WHOLE or rows == 1:
        return _by_matrix(value, sign, wanted)
    columns = length // rows
    # value number row · columns + column; result number i + rows · k
    turned = tuple(
        None if part is None else part.reshape(*part.shape[:-1], rows, columns).mT for part in value
    )
    assert turned[0] is not None
    inner = _transform((turned[0], turned[1]), sign, rows)  # (…, column, i)
    cosine, sine = _matrix(columns, rows, length, value[0].dtype)
    real, imaginary = _product(inner, (cosine, sine * sign))
    outer = _transform((real.mT, imaginary.mT), sign, columns)  # (…, i, k)
    return outer[0].mT.flatten(-2)[..., :wanted], outer[1].mT.flatten(-2)[..., :wanted]


def _product(one: Whole, other: Whole) -> Whole:
    return one[0] * other[0] - one[1] * other[1], one[0] * other[1] + one[1] * other[0]


def _by_matrix(value: Parts, sign: int, wanted: int) -> Whole:
    real, imaginary = value
    length = real.shape[-1]
    if length > _LARGEST:
        raise UnsupportedOpError(
            "aten.fft",
            source=source.here(),
            instead=(
                f"{length} values have no factors by which they could be transformed in parts. Transform "
                f"{2 ** math.ceil(math.log2(length))} values, with zeros behind yours: n=… or n_fft=…."
            ),
        )
    cosine, sine = _matrix(length, wanted, length, real.dtype)
    sine = sine * sign
    if imaginary is None:
        return real @ cosine, real @ sine
    return real @ cosine - imaginary @ sine, real @ sine + imaginary @ cosine


def _matrix(rows: int, columns: int, length: int, dtype: torch.dtype) -> Whole:
    """Cosines and sines of row · column turns of 1 / length."""
    turns = torch.arange(rows).unsqueeze(1) * torch.arange(columns) % length
    angles = turns.to(torch.float64) * (2 * math.pi / length)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _factor(length: int) -> int:
    """The largest factor that is no larger than the root; 1 when there is none."""
    return next(factor for factor in range(math.isqrt(length), 0, -1) if length % factor == 0)
