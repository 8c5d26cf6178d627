"""Whether a step does the same each time: what it keeps in Python from run to run is no part of a Plan.

A step may count its runs in a closure, append to a list, or go on with a tensor that its last run has left in
an attribute. Nothing shows that but another run. The second one is on tensors of fixed sizes, which takes a
fraction of the time of the first, and what reaches PyTorch's kernels is compared, operation by operation.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

Trail = list[tuple[Any, ...]]
"""For each operation its name, and its arguments without the tensors' values."""

_ALL = torch.iinfo(torch.int64).max


def entry_of(
    function: Any, args: Sequence[Any], kwargs: dict[str, Any] | None, mode: FakeTensorMode | None
) -> tuple[Any, ...] | None:
    """What a trail tells of an operation; None for one that a run with symbols for sizes has besides.

    Args:
        function: the operation.
        args: its arguments.
        kwargs: its arguments by name.
        mode: makes the tensors of the run.
    """
    name, told = str(function), _told(args, mode)
    if name == "prim.device.default" or (name == "aten.slice.Tensor" and told[2:] == ("0", repr(_ALL))):
        return None
    return name, told, _told(kwargs or {}, mode)


_MOST_COMPARED = 65_536
"""Numbers of a tensor that the step holds; larger ones are taken to stay as they are."""


def _content(held: torch.Tensor) -> Any:
    """What stands in a tensor that the step holds: NumPy may write to its memory from run to run."""
    with _disable_current_modes():
        if held.layout != torch.strided or held.is_meta or held.numel() > _MOST_COMPARED:
            return torch.Tensor
        plain = held.detach().cpu().contiguous().reshape(-1)
        return hashlib.sha256(plain.view(torch.uint8).numpy().tobytes()).digest()


_LEFT = "a tensor that an earlier run has left"


def _told(value: Any, mode: FakeTensorMode | None) -> Any:
    if isinstance(value, FakeTensor):
        return torch.Tensor if value.fake_mode is mode else _LEFT
    if isinstance(value, torch.Tensor):
        return _content(value)
    if isinstance(value, list | tuple):
        return tuple(_told(item, mode) for item in value)
    if isinstance(value, dict):
        return tuple((key, _told(item, mode)) for key, item in value.items())
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        hint = value.node.hint  # None for a value that a tensor has
        return torch.SymInt if hint is None else _told(hint, mode)
    if isinstance(value, int | float):
        return repr(value)  # NaN is like itself, and 0.0 is not like -0.0
    return value if value is None or isinstance(value, torch.dtype | torch.device | str) else type(value)
