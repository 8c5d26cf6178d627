"""Packed sequences while a function is traced: the padded tensor, and the lengths.

`pack_padded_sequence` gathers the steps that the sequences have; how many these are depends on values, which
a tracer does not know. So here a packed sequence keeps the padded tensor, the recurrent operators leave out
the steps beyond a sequence's end, and `pad_packed_sequence` gives the padded tensor back.

Outside of the three (packing, recurrent layers, padding) a packed sequence has no contents: its rows would
have others between them. The two objects that stand for `PackedSequence.data` and `.batch_sizes` refuse all
other use.
"""

from collections.abc import Callable
from typing import Any, Self

import torch

from fedplan.errors import TraceError

_ADVICE = (
    "While a Plan is traced, a packed sequence can only go through nn.LSTM, nn.GRU or nn.RNN and into "
    "pad_packed_sequence: how many rows it has depends on the lengths' values. Apply other layers before "
    "pack_padded_sequence or after pad_packed_sequence, and leave padding out of the loss with a mask."
)


class _StandIn(torch.Tensor):
    """A tensor that has a shape and no contents."""

    @classmethod
    def of_shape(cls, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Self:
        """One without contents."""
        made: Self = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=device)
        return made

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func not in _ABOUT_SHAPE:
            raise TraceError(f"{getattr(func, '__name__', func)} is applied to a packed sequence. {_ADVICE}")
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch declares it as a value
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise TraceError(f"{func} is applied to a packed sequence. {_ADVICE}")


_TENSOR: Any = torch.Tensor

_ABOUT_SHAPE = frozenset(
    (
        _TENSOR.dim,
        _TENSOR.size,
        *(
            getattr(_TENSOR, name).__get__
            for name in ("shape", "dtype", "device", "is_cuda", "requires_grad")
        ),
    )
)
"""What `nn.RNNBase` and `PackedSequence` ask for."""


class Rows(_StandIn):
    """Stands for `PackedSequence.data`.

    Attributes:
        padded: (T, B, …), time first; anything where a sequence has no step.
        lengths: time steps of each sequence, (B,), int64.
    """

    padded: torch.Tensor
    lengths: torch.Tensor

    def __new__(cls, padded: torch.Tensor, lengths: torch.Tensor) -> Self:
        """Two-dimensional, as packed rows are."""
        steps, rows, *rest = padded.shape
        made = cls.of_shape((steps * rows, *rest), padded.dtype, padded.device)
        made.padded, made.lengths = padded, lengths
        return made


class Sizes(_StandIn):
    """Stands for `PackedSequence.batch_sizes`: of each step, how many sequences have it.

    Attributes:
        rows: sequences in the batch, which is what the first step's size stands for.
    """

    rows: int

    def __new__(cls, padded: torch.Tensor, lengths: torch.Tensor) -> Self:
        """As many as there are steps in the padded tensor."""
        made = cls.of_shape((padded.shape[0],), torch.int64, lengths.device)
        made.rows = padded.shape[1]
        return made

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.__getitem__ and isinstance(args[0], cls) and args[1] == 0:
            return args[0].rows
        return super().__torch_function__(func, types, args, kwargs)


def pack(x: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> tuple[Rows, Sizes]:
    """`torch._pack_padded_sequence`.

    Args:
        x: (T, B, …), or (B, T, …).
        lengths: (B,), int64, in any order. Each is taken to be between 1 and T; nothing can check that
            before the Plan runs.
        batch_first: x has the batch first.
    """
    if x.dim() < 2 or lengths.dim() != 1:
        raise TraceError(
            f"pack_padded_sequence: x has {x.dim()} dimensions and lengths {lengths.dim()}; "
            "(T, B, …) and (B,) are needed"
        )
    padded = x.transpose(0, 1) if batch_first else x
    return Rows(padded, lengths), Sizes(padded, lengths)


def pad(
    rows: Rows, batch_first: bool, padding_value: float, total_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`torch._pad_packed_sequence`.

    The time extent is T of the tensor that was packed, or `total_length` where that is more. PyTorch gives
    the longest sequence's length, so the result may have rows of padding at its end that PyTorch's has not;
    with `total_length=T` they are the same.

    Args:
        rows: what was packed, or what recurrent layers made of it.
        batch_first: put the batch first.
        padding_value: stands where a sequence has no step.
        total_length: time extent of the result; T at least.

    Returns:
        The padded tensor, and the lengths, (B,), int64.
    """
    padded = rows.padded
    extent, count = padded.shape[0], padded.shape[1]
    steps = torch.arange(extent, device=padded.device).reshape(extent, 1)
    going = (steps < rows.lengths).reshape(extent, count, *(1 for _ in padded.shape[2:]))
    whole = torch.where(going, padded, padding_value)
    if total_length > extent:
        rest = whole.new_full((total_length - extent, *padded.shape[1:]), padding_value)
        whole = torch.cat((whole, rest))
    return whole.transpose(0, 1) if batch_first else whole, rows.lengths
