"""How much memory a function takes."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class _Alive(TorchDispatchMode):
    """Counts the bytes of the storages that operations made and that are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in pytree.tree_leaves((args, kwargs)):
            if isinstance(value, torch.Tensor):
                self._note(value.untyped_storage(), 0)
        made = func(*args, **(kwargs or {}))
        for value in pytree.tree_leaves(made):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                self._note(storage, storage.nbytes())
        return made

    def _note(self, storage: Any, size: int) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def peak(function: Callable[[], Any]) -> int:
    """The most bytes that operations of a function hold at one time; its arguments do not count."""
    with torch.no_grad(), _Alive() as alive:
        function()
    return alive.most
