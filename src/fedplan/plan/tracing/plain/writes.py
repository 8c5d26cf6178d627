"""Which tensors of a recording are written in place, and whether that can be followed tensor by tensor."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.fx import Node
from torch.utils import _pytree as pytree

Memory = int
"""What tells one piece of memory from another."""


def memory_of(node: Node) -> Memory | None:
    """The memory in which a recorded tensor lies; None for what is no tensor."""
    value = node.meta.get("val")
    return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) else None


class Writes:
    """The writes of a recording.

    A tensor that is written is followed by the last value of its memory. Other views of that memory have no
    value of their own after a write, so it can be followed only where none of them is read then.
    """

    def __init__(self, nodes: Sequence[Node], written: Mapping[Node, Sequence[Node]]) -> None:
        """Takes a recording.

        Args:
            nodes: in order.
            written: for each node that writes, the tensors that it writes to.
        """
        self._order = {node: number for number, node in enumerate(nodes)}
        self._written = written
        memories = set(map(memory_of, pytree.tree_leaves(list(written.values()))))
        bases: dict[Memory, Node] = {}
        self._whole: set[Node] = set()
        self._views: dict[Memory, list[Node]] = {}
        for node in nodes:
            memory = memory_of(node)
            if memory is None or memory not in memories:
                continue
            if _lies_like(node, bases.setdefault(memory, node)):
                self._whole.add(node)
            else:
                self._views.setdefault(memory, []).append(node)

    def followed(self, node: Node) -> Memory | None:
        """The memory whose last value is that of this node; None for one that keeps its own value."""
        return memory_of(node) if node in self._whole else None

    def can_be_followed(self) -> bool:
        """Whether all writes are to whole tensors, and no other view is read after its memory was written."""
        return all(self._follows(write, targets) for write, targets in self._written.items())

    def _follows(self, write: Node, targets: Sequence[Node]) -> bool:
        once = len(set(map(memory_of, targets))) == len(targets)
        return once and all(
            target in self._whole and not any(self._reads_after(write, v) for v in self._views_of(target))
            for target in targets
        )

    def _views_of(self, target: Node) -> Sequence[Node]:
        memory = memory_of(target)
        return () if memory is None else self._views.get(memory, ())

    def _reads_after(self, write: Node, view: Node) -> bool:
        at = self._order[write]
        return self._order[view] < at and any(self._order[user] > at for user in view.users)


def _lies_like(node: Node, base: Node) -> bool:
    one, other = node.meta["val"], base.meta["val"]
    return one.dtype == other.dtype and _layout(one) == _layout(other)


def _layout(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tuple(map(str, (*tensor.shape, "strides", *tensor.stride(), tensor.storage_offset())))
