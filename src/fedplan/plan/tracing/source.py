"""Where in the author's code something happened: the innermost frame that is not PyTorch's or fedplan's."""

import re
import sys
import traceback
from pathlib import Path
from types import FrameType

import torch

_OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]))
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


def of_stack(stack: str | None) -> str | None:
    """``file.py:12`` from a recorded stack, or None. The folder stays private."""
    found = [
        (match["file"], match["line"]) for match in _FRAME.finditer(stack or "") if _is_authors(match["file"])
    ]
    return f"{Path(found[-1][0]).name}:{found[-1][1]}" if found else None


def here() -> str:
    """The author's frame that is running now, in the form of a recorded stack; empty when there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_authors(frame.f_code.co_filename):
        frame = frame.f_back
    return "" if frame is None else f'File "{frame.f_code.co_filename}", line {frame.f_lineno}'


def of_exception(error: BaseException) -> str:
    """`` at file.py:12`` for a message, or an empty text."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_authors(f.filename)]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def of_frame(frame: object) -> str:
    """`` at file.py:12`` for a message, or an empty text."""
    if not isinstance(frame, traceback.FrameSummary):
        return ""
    return f" at {Path(frame.filename).name}:{frame.lineno}"


def _is_authors(file: str) -> bool:
    return not file.startswith(_OURS) and not file.startswith("<")
