"""Complex tensors by their parts."""

import dataclasses
from typing import Any

import torch

Part = torch.Tensor | float | None
"""A tensor, a number, or None for nothing."""

REAL = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}
"""By the dtype of complex numbers, that of their parts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Complex:
    """A complex tensor.

    Attributes:
        parts: real and imaginary part, (…, 2).
    """

    parts: torch.Tensor

    @property
    def real(self) -> torch.Tensor:
        """The real part."""
        return self.parts.select(self.rank, 0)

    @property
    def imag(self) -> torch.Tensor:
        """The imaginary part."""
        return self.parts.select(self.rank, 1)

    @property
    def rank(self) -> int:
        """How many dimensions the complex tensor has."""
        return self.parts.dim() - 1


def as_parts(value: torch.Tensor) -> torch.Tensor:
    """A complex tensor as `Complex` has it."""
    return torch.view_as_real(value.resolve_conj().resolve_neg())


def parts_of(value: Any) -> tuple[Part, Part]:
    """Real and imaginary part of a tensor, a number, or a pair of parts."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, Complex):
        return value.real, value.imag
    if isinstance(value, complex):
        return value.real if value.real or not value.imag else None, value.imag or None
    return value, None


def made(real: Part, imaginary: Part) -> Complex:
    """A complex tensor of its parts, of which one is a tensor."""
    like = real if isinstance(real, torch.Tensor) else imaginary
    assert isinstance(like, torch.Tensor)
    parts = (
        like.new_full((), part or 0) if not isinstance(part, torch.Tensor) else part
        for part in (real, imaginary)
    )
    spread = torch.broadcast_tensors(*parts)  # type: ignore[no-untyped-call]
    last = spread[0].dim()
    return Complex(torch.cat([part.unsqueeze(last) for part in spread], last))


def whole(value: Any) -> Complex:
    """A tensor as a complex one."""
    return value if isinstance(value, Complex) else made(value, None)


def axis(value: Complex, dim: int, more: int = 0) -> int:
    """The number of a dimension, counted from the front; `more` dimensions are about to be added."""
    return dim % max(value.rank + more, 1)


def axes(value: Complex, dims: Any) -> list[int]:
    """The numbers of some dimensions; of all where none are given."""
    chosen = [] if dims is None else [dims] if isinstance(dims, int) else list(dims)
    return [axis(value, dim) for dim in chosen] or list(range(value.rank))
