"""Tensors that a step computes from numbers alone, such as masks and positions: each run makes the same ones.

A model may compute one in its first run and keep it in an attribute. The second run then lacks the operations
that made it, and still does the same. So a table is told by what made it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree

from fedplan.plan.tracing.chance import draws


class Tables:
    """The tables of one run, by their memory.

    Args:
        kept: those of an earlier run that this run may come upon.
    """

    def __init__(self, kept: "Tables | None" = None) -> None:
        # the memory itself is held too, so that no other gets its address
        self._made: dict[int, tuple[torch.UntypedStorage, bytes]] = {} if kept is None else dict(kept._made)
        self._kept = set(self._made)
        self._by_rows: set[bytes] = set()

    def told(self, tensor: FakeTensor) -> tuple[Any, ...] | None:
        """What made a table, and which part of its memory it is; None for a tensor that is no table."""
        made = self._made.get(_address(tensor))
        if made is None:
            return None
        return made[1], *map(_number, (tensor.storage_offset(), *tensor.shape, *tensor.stride()))

    def note(self, op: Any, args: Any, entry: tuple[Any, ...] | None, result: Any) -> None:
        """Notes what an operation has made, or written to.

        Args:
            op: the operation.
            args: its arguments.
            entry: what it did, if all its tensors are tables; else None.
            result: what it returned.
        """
        written = list(_written(op, args))
        if entry is None or draws(op, args[0]):
            for tensor in written:
                self._made.pop(_address(tensor), None)
            return
        by_rows = self._is_by_rows(args)
        new = [t for t in pytree.tree_leaves(result) if isinstance(t, FakeTensor) and self.told(t) is None]
        for index, tensor in enumerate(t for t in (*written, *new) if _address(t) >= 0):
            made = hashlib.blake2b(repr((entry, index)).encode()).digest()
            self._made[_address(tensor)] = tensor.untyped_storage(), made
            if by_rows:
                self._by_rows.add(made)

    def found_in(self, values: Iterable[Any]) -> "Tables":
        """Those among some values, without the ones whose extents or numbers follow the batch's rows."""
        found = Tables()
        for value in values:
            made = self._made.get(_address(value)) if isinstance(value, FakeTensor) else None
            if made is not None and made[1] not in self._by_rows and value.storage_offset() == 0:
                found._made[_address(value)] = made
        return found

    def writes_to_kept(self, op: Any, args: Any) -> bool:
        """Whether an operation writes to a table of the earlier run, which the next run would then find."""
        return bool(self._kept) and any(_address(tensor) in self._kept for tensor in _written(op, args))

    def brought(self, values: Any, mode: FakeTensorMode | None) -> Any:
        """Arguments with tables of this run in the place of the earlier run's."""
        return pytree.tree_map(lambda value: self._brought(value, mode), values) if self._kept else values

    def _brought(self, value: Any, mode: FakeTensorMode | None) -> Any:
        if not isinstance(value, FakeTensor) or mode is None or _address(value) not in self._kept:
            return value
        if value.fake_mode is mode:
            return value
        extents, strides = [[_number(e) for e in of] for of in (value.shape, value.stride())]
        # the modes of this run are on, so it is a tensor of this run
        own = torch.empty_strided(extents, strides, dtype=value.dtype, device=value.device)
        self._made[_address(own)] = own.untyped_storage(), self._made[_address(value)][1]
        self._kept.add(_address(own))
        return own

    def _is_by_rows(self, args: Any) -> bool:
        for value in pytree.tree_leaves(args):
            if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
                return True
            if isinstance(value, FakeTensor) and self._made[_address(value)][1] in self._by_rows:
                return True
        return False


def _address(tensor: torch.Tensor) -> int:
    """Which memory a tensor has; -1 for one of `torch.func`'s, which has none of its own."""
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return -1
    address: int = tensor.untyped_storage()._cdata
    return address


def _number(extent: Any) -> Any:
    return extent.node.hint if isinstance(extent, torch.SymInt) else extent


def _written(op: Any, args: Any) -> Iterator[FakeTensor]:
    """The tensors of the trace to which an operation writes."""
    positional, by_name = args
    if not isinstance(op, OpOverload):
        return
    for place, argument in enumerate(op._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = positional[place] if place < len(positional) else by_name.get(argument.name)
            yield from (t for t in pytree.tree_leaves(value) if isinstance(t, FakeTensor))
