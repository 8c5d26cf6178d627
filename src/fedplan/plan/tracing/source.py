"""Where in the author's code something happened: the line, and the layer of the network.

A place reads ``net.py:12 in encoder.layers.0.dropout: Dropout``, without the layer where none is running. The
line is the innermost one that is not PyTorch's, NumPy's, Python's or fedplan's; the layer's name is its path
in the outermost module that is running. Folders stay private.
"""

import functools
import os
import re
import sys
import sysconfig
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import nn

_OURS = str(Path(__file__).parents[2]) + os.sep
_DEMO = str(Path(_OURS, "cli", "demo")) + os.sep  # written as an author would
_LIBRARIES = tuple(str(Path(str(library.__file__)).parent) + os.sep for library in (torch, np))
_PYTHON = (*(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")),)
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")  # below Python's own folder, and not Python's

_TYPED = re.compile(r"<(stdin|string|console|input|(i?python)-input-.*|doctest .*)>")
"""Names that Python gives to code that came from no file: a terminal's, a notebook's, `python -c`'s."""

_GENERATORS = frozenset({"torch", "fedplan", "dataclasses", "None"})
"""Packages that make code of such a name themselves; PyTorch's belongs to none."""


def is_authors(frame: FrameType) -> bool:
    """Whether the author wrote what runs in a frame."""
    file = frame.f_code.co_filename
    if file.startswith("<"):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        return _TYPED.fullmatch(file) is not None and package not in _GENERATORS
    return is_authors_file(file)


@functools.cache
def is_authors_file(file: str) -> bool:
    """Whether the author wrote a file."""
    if file.startswith(_OURS):
        return file.startswith(_DEMO)
    if file.startswith(_LIBRARIES):
        return False
    return not file.startswith(_PYTHON) or _INSTALLED.search(file) is not None


def is_tracer(file: str) -> bool:
    """Whether a file is fedplan's."""
    return file.startswith(_OURS) and not file.startswith(_DEMO)


def is_numpys(error: BaseException) -> bool:
    """Whether an error was raised in a function of NumPy's."""
    link, file = error.__traceback__, ""
    while link is not None:
        file, link = link.tb_frame.f_code.co_filename, link.tb_next
    return file.startswith(_LIBRARIES[1])


def name_of(file: str) -> str:
    """The name of a file; of a notebook's cell ``In[3]``, for its file has only a number."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    named = None if shell is None else shell.compile.format_code_name(file)
    return Path(file).name if named is None else str(named[1])


def here() -> str | None:
    """The place that is running now."""
    return _place(_running(sys._getframe(1)))


def line_of(frame: FrameType) -> tuple[str, int] | None:
    """File and line of the author's that run now, in this frame or in one that called it."""
    authors = next(filter(is_authors, _running(frame)), None)
    return None if authors is None else (authors.f_code.co_filename, authors.f_lineno)


def of_exception(error: BaseException) -> str | None:
    """The place where an error came from."""
    frames: list[FrameType | tuple[FrameType, int]] = []
    link = error.__traceback__
    while link is not None:
        frames.append((link.tb_frame, link.tb_lineno))
        link = link.tb_next
    return _place([*reversed(frames), *_running(sys._getframe(1))])  # what was left, and what called that


def _running(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _place(frames: Iterable[FrameType | tuple[FrameType, int]]) -> str | None:
    """The place of frames, the innermost first."""
    line: str | None = None
    modules: list[nn.Module] = []
    for entry in frames:
        frame, number = entry if isinstance(entry, tuple) else (entry, entry.f_lineno)
        if frame.f_code is _CALL:
            modules.append(frame.f_locals["self"])
        elif line is None and is_authors(frame):
            line = f"{name_of(frame.f_code.co_filename)}:{number}"
    layer = _layer(modules)
    return f"{line} in {layer}" if line and layer else line


_CALL = nn.Module._call_impl.__code__
"""What runs for every layer that is called."""


def _layer(modules: Sequence[nn.Module]) -> str | None:
    """``path: Class`` of the first of the modules; the others called it, the outermost is the last."""
    if not modules:
        return None
    paths = (_path(outer, modules[0]) for outer in reversed(modules))
    path = next((path for path in paths if path is not None), "")
    kind = type(modules[0]).__name__
    return f"{path}: {kind}" if path else kind


_PATHS: "weakref.WeakKeyDictionary[nn.Module, dict[int, str | None]]" = weakref.WeakKeyDictionary()
"""By an outer module, and the identity of another: its path inside, None when it is not inside."""


def _path(outer: nn.Module, wanted: nn.Module) -> str | None:
    known = _PATHS.setdefault(outer, {})
    if id(wanted) not in known:
        known[id(wanted)] = None
        known.update((id(module), path) for path, module in outer.named_modules())
    return known[id(wanted)]
