"""What PyTorch says while a step is traced, in the author's terms and at the author's lines."""

import contextlib
import io
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from fedplan.plan.tracing import source

_SYMBOL = re.compile(r"\bs\d+\b")
"""How PyTorch writes a size that may be any."""

_TRACERS_LOG = logging.getLogger("torch._subclasses.fake_tensor")
"""Where PyTorch logs each error with its traceback, before it raises it."""


def numbers_of(tensors: Sequence[torch.Tensor]) -> dict[str, str]:
    """By symbol, the extent that it has in the author's example."""
    extents: list[Any] = [extent for tensor in tensors for extent in tensor.shape]
    return {str(e.node.expr): str(e.node.hint) for e in extents if isinstance(e, torch.SymInt)}


def with_numbers(message: str, numbers: Mapping[str, str]) -> str:
    """A message with the example's extents in place of symbols."""
    return _SYMBOL.sub(lambda found: numbers.get(found[0], "rows"), message)


def with_rows(question: str) -> str:
    """A question about sizes with a word in place of symbols."""
    return _SYMBOL.sub("rows", question)


def extents_of(tensor: torch.Tensor) -> list[int]:
    """A tensor's shape as it is for the author's example."""
    shape: Sequence[Any] = tensor.shape
    return [extent if isinstance(extent, int) else int(extent.node.hint) for extent in shape]


@contextlib.contextmanager
def errors_told_once() -> Iterator[None]:
    """Keeps PyTorch's tracer from logging errors that fedplan tells."""

    def silent(_record: logging.LogRecord) -> bool:
        return False

    _TRACERS_LOG.addFilter(silent)
    try:
        yield
    finally:
        _TRACERS_LOG.removeFilter(silent)


@contextlib.contextmanager
def warnings_at_authors_lines(numbers: Mapping[str, str]) -> Iterator[None]:
    """Gives warnings that would name fedplan's own lines to the author's, when the trace has ended.

    PyTorch names the line that called its function, and while a step is traced fedplan stands between.

    Args:
        numbers: see `with_numbers`.
    """
    noted: list[tuple[Any, type[Warning], str, int]] = []

    def note(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: object = None,
        line: str | None = None,
    ) -> None:
        place = source.line_of(sys._getframe(1)) if source.is_tracer(filename) else None
        text = with_numbers(str(message), numbers)
        noted.append((message if text == str(message) else text, category, *(place or (filename, lineno))))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield
    for message, category, file, line in noted:
        warnings.warn_explicit(message, category, file, line, _module_of(file))


@contextlib.contextmanager
def formatted() -> Iterator[None]:
    """Lets a step print what has no value yet, such as ``f"{loss.item():.3f}"``."""
    kinds: tuple[Any, ...] = (FakeTensor, torch.SymFloat, torch.SymInt)
    before = [kind.__dict__.get("__format__") for kind in kinds]
    for kind in kinds:
        kind.__format__ = _without_value
    try:
        yield
    finally:
        for kind, own in zip(kinds, before, strict=True):
            if own is None:
                del kind.__format__
            else:
                kind.__format__ = own


def _without_value(value: Any, how: str) -> str:
    hint = None if isinstance(value, torch.Tensor) else value.node.hint  # a size has that of the example
    if hint is not None:
        return format(hint, how)
    if not how:
        return str(value)
    return f"({'tensor' if isinstance(value, torch.Tensor) else 'number'} without a value)"


@contextlib.contextmanager
def told_before() -> Iterator[None]:
    """Keeps a step that runs again from printing and warning again."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def warn(message: str) -> None:
    """Warns of the author's line that is running."""
    file, line = source.line_of(sys._getframe(1)) or (__file__, 1)
    warnings.warn_explicit(message, UserWarning, file, line, _module_of(file))


def _module_of(file: str) -> str | None:
    """The name of the module that a file is, which filters of warnings may name."""
    modules = list(sys.modules.items())
    return next((name for name, module in modules if getattr(module, "__file__", None) == file), None)
