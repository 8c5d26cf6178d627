"""Leaving a module as it was: its attributes, and the containers in them, are put back after tracing."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

_MISSING = object()


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """An attribute that a module set while it ran.

    Attributes:
        module: the module.
        path: its path and the attribute's name, such as ``encoder.cache``.
        name: the attribute's name.
    """

    module: nn.Module
    path: str
    name: str


class Snapshot:
    """What the attributes of a module and of all its parts are, the tensors' own values left out."""

    def __init__(self, *modules: object) -> None:
        self._attributes: list[tuple[str, nn.Module, dict[str, Any]]] = []
        self._contents: list[tuple[Any, Any]] = []
        self._gradients: list[tuple[nn.Parameter, torch.Tensor | None]] = []
        known: set[int] = set()
        for whole in modules:
            for path, module in whole.named_modules() if isinstance(whole, nn.Module) else ():
                self._attributes.append((path, module, dict(vars(module))))
                self._gradients += [(p, p.grad) for p in module.parameters(recurse=False)]
                for value in vars(module).values():
                    self._note_contents(value, known)

    def _note_contents(self, value: Any, known: set[int]) -> None:
        if id(value) in known or not isinstance(value, list | dict | set):
            return
        known.add(id(value))
        self._contents.append((value, value.copy()))
        for item in value.values() if isinstance(value, dict) else value:
            self._note_contents(item, known)

    def changes(self) -> list[Change]:
        """The attributes that are others now; parameters, buffers and parts are not among them."""
        found = []
        for path, module, before in self._attributes:
            now = vars(module)
            for name in {**before, **now}:
                old, new = before.get(name, _MISSING), now.get(name, _MISSING)
                if name not in ("_parameters", "_buffers", "_modules") and not _same(old, new):
                    found.append(Change(module, f"{path}.{name}" if path else name, name))
        lists = {id(value): copy for value, copy in self._contents}
        for path, module, before in self._attributes:
            found += [
                Change(module, f"{path}.{name}" if path else name, name)
                for name, value in before.items()
                if not name.startswith("_")
                and id(value) in lists
                and not _same_items(value, lists[id(value)])
            ]
        return found

    def left(self) -> Iterator[Any]:
        """What is in the attributes now, and in their lists and mappings: what `restore` takes away."""
        known: set[int] = set()
        for _, module, _ in self._attributes:
            for value in vars(module).values():
                yield from _items(value, known)

    def restore(self) -> None:
        """Puts everything back."""
        for _, module, before in self._attributes:
            vars(module).clear()
            vars(module).update(before)
        for value, copy in self._contents:
            value.clear()
            value.extend(copy) if isinstance(value, list) else value.update(copy)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient


def _items(value: Any, known: set[int]) -> Iterator[Any]:
    if id(value) in known:
        return
    known.add(id(value))
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _items(item, known)
    else:
        yield value


def _same(old: Any, new: Any) -> bool:
    plain = (bool, int, float, str, type(None))
    return old is new or (isinstance(old, plain) and isinstance(new, plain) and old == new)


def _same_items(value: Any, before: Any) -> bool:
    if len(value) != len(before):
        return False
    if isinstance(value, dict):
        return all(name in before and _same(before[name], item) for name, item in value.items())
    return all(map(_same, before, value)) if isinstance(value, list) else value == before


@contextlib.contextmanager
def unchanged(*modules: object) -> Iterator[Snapshot]:
    """Puts these modules back as they are now; what is no module is passed over."""
    snapshot = Snapshot(*modules)
    try:
        yield snapshot
    finally:
        snapshot.restore()
