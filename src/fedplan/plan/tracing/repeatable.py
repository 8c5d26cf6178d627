"""Whether a step does the same each time: what it keeps in Python from run to run is no part of a Plan.

A step may count its runs in a closure, append to a list, or go on with a tensor that its last run has left in
an attribute. Nothing shows that but another run. The second one is on tensors of fixed sizes, which takes a
fraction of the time of the first, and what reaches PyTorch's kernels is compared, operation by operation.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from fedplan.plan.tracing.tables import Tables

_ALL = torch.iinfo(torch.int64).max


class Trail:
    """What a run did: for each operation its name, and its arguments, tensors by where they come from.

    What only makes tables is left out: they are told where they are used; see `tables`.

    Args:
        mode: makes the tensors of the run.
        kept: tables of an earlier run that this run may come upon.
    """

    def __init__(self, mode: FakeTensorMode | None = None, kept: Tables | None = None) -> None:
        self._mode = mode
        self.tables = Tables(kept)
        self._entries: list[tuple[Any, ...]] = []
        # by `id`, where a tensor comes from; it is held, so that no other gets its `id`
        self._origins: dict[int, tuple[torch.Tensor, Any]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trail) and self._entries == other._entries

    __hash__ = None  # type: ignore[assignment]  # it grows

    def begin(self, inputs: Sequence[Any]) -> None:
        """Notes the tensors with which the run begins."""
        self._origins = {id(given): (given, ("input", number)) for number, given in enumerate(inputs)}

    def run(self, op: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Notes an operation, and returns what it gives."""
        if self.tables.writes_to_kept(op, (args, kwargs)):
            self._entries.append(("a write to what an earlier run has left", str(op)))
        args, kwargs = self.tables.brought((tuple(args), kwargs), self._mode)
        entry = self._entry(op, args, kwargs)
        is_of_tables = entry is not None and _is_known(entry)
        if entry is not None and not is_of_tables:
            self._entries.append(entry)
        result = op(*args, **kwargs)
        self.tables.note(op, (args, kwargs), entry if is_of_tables else None, result)
        self._note_origins(args, entry, result)
        return result

    def end(self, result: Any) -> None:
        """Notes what the run returns."""
        self._entries.append(("the result", self._told(result)))

    def _note_origins(self, args: Sequence[Any], entry: tuple[Any, ...] | None, result: Any) -> None:
        for number, made in enumerate(pytree.tree_leaves(result)):
            if isinstance(made, FakeTensor) and id(made) not in self._origins:
                origin = (len(self._entries), number)
                if entry is None and id(args[0]) in self._origins:  # it is its argument again
                    origin = self._origins[id(args[0])][1]
                self._origins[id(made)] = made, origin

    def _entry(self, op: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        """What is told of an operation; None for one that a run with symbols for sizes has besides."""
        name, told = str(op), self._told(args)
        if name == "prim.device.default" or (name == "aten.slice.Tensor" and told[2:] == ("0", repr(_ALL))):
            return None
        return name, told, self._told(kwargs)

    def _told(self, value: Any) -> Any:
        if isinstance(value, FakeTensor):
            table = self.tables.told(value)
            if table is not None:
                return table
            if value.fake_mode is not self._mode:
                return _Left
            return _Made(self._origins[id(value)][1]) if id(value) in self._origins else torch.Tensor
        if isinstance(value, torch.Tensor):
            return _content(value)
        if isinstance(value, list | tuple):
            return tuple(map(self._told, value))
        if isinstance(value, dict):
            return tuple((key, self._told(item)) for key, item in value.items())
        if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            hint = value.node.hint  # None for a value that a tensor has
            return torch.SymInt if hint is None else self._told(hint)
        if isinstance(value, int | float):
            return repr(value)  # NaN is like itself, and 0.0 is not like -0.0
        return value if value is None or isinstance(value, torch.dtype | torch.device | str) else type(value)


@dataclasses.dataclass(frozen=True, slots=True)
class _Made:
    """Stands for a tensor of the run: the input that it is, or the operation that made it."""

    origin: Any


class _Left:
    """Stands for a tensor that an earlier run has left."""


def _is_known(told: Any) -> bool:
    """Whether what is told says all, so that there is no tensor but tables."""
    return all(map(_is_known, told)) if isinstance(told, tuple) else not isinstance(told, type | _Made)


_MOST_COMPARED = 4_194_304
"""Numbers of a tensor that the step holds; of larger ones, that many are compared."""


def _content(held: torch.Tensor) -> Any:
    """What stands in a tensor that the step holds: NumPy may write to its memory from run to run."""
    with _disable_current_modes():
        if (
            held.layout != torch.strided
            or held.is_meta
            or torch._C._functorch.is_functorch_wrapped_tensor(held)
        ):
            return torch.Tensor
        plain = held.detach().reshape(-1)[:: 1 + held.numel() // _MOST_COMPARED].cpu().contiguous()
        return hashlib.sha256(plain.view(torch.uint8).numpy().tobytes()).digest()
