"""Reads of values that decide about nothing but an error: `assert`, and the checks of arguments.

`if (variance < 0).any(): raise ValueError` reads a value into Python, which a Plan cannot do. But whoever
runs the step to its end went past the check, so the recorded path is the only one. Such a read is answered
with what passes the check, and the check is no part of the Plan. Whether a read is of this kind is seen in
the bytecode of the frame that reads: one side of the branch can only raise, and nothing catches that.
"""

import bisect
import contextlib
import dis
import sys
import warnings
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from torch.distributions import constraints
from torch.nn.modules import transformer

from fedplan.plan.tracing import source

_ANSWERS: Mapping[CodeType, bool] = {
    transformer._detect_is_causal_mask.__code__: False,  # the mask is then used as it is
    **{kind.check.__code__: True for kind in vars(constraints).values() if hasattr(kind, "check")},
}
"""PyTorch's own reads that choose between two ways to the same result, by the code that reads."""


def passing(frame: FrameType | None, truth: bool) -> bool | None:
    """The answer to a frame that asks for a truth value, when only one of the two has a result.

    Args:
        frame: the frame that asks.
        truth: whether what it asks for is a truth value already; a call may then be what asks.

    Returns:
        The truth value; None when both have a result.
    """
    if frame is None:
        return None
    if frame.f_code in _ANSWERS:
        return _ANSWERS[frame.f_code]
    code = _Code.of(frame)
    answer = code.passing(frame.f_lasti, truth)
    return None if answer is None or any(map(_catches, _callers(frame))) else answer


def _callers(frame: FrameType) -> Iterator[FrameType]:
    """The author's frames from this one outwards, up to whoever asked for the trace."""
    current: FrameType | None = frame
    while current is not None and not source.is_tracer(current.f_code.co_filename):
        if current is not frame and (source.is_authors(current) or _decorates(current)):
            yield current
        current = current.f_back


def _decorates(frame: FrameType) -> bool:
    """Whether a context manager runs here as the decorator of a function."""
    code = frame.f_code
    return code.co_filename == contextlib.__file__ and code.co_name == "inner" and "self" in frame.f_locals


def _catches(frame: FrameType) -> bool:
    if _decorates(frame):
        return _swallows(type(frame.f_locals["self"]))
    return _Code.of(frame).catches(frame.f_lasti)


_GENERATOR_BASED = contextlib.contextmanager(lambda: iter(())).__code__
_PASS_ERRORS_ON = (
    contextlib.closing,
    contextlib.nullcontext,
    contextlib.redirect_stderr,
    contextlib.redirect_stdout,
    warnings.catch_warnings,
)
_PASS_ALL_ERRORS_ON = frozenset({"torch", "threading", "_thread"})
"""Packages whose context managers never swallow an error."""


def _swallows(manager: Any) -> bool:
    """Whether an error may end at a ``with`` block, as it does at `contextlib.suppress`.

    Args:
        manager: the class of its context manager, or the function that makes that; None for any.
    """
    if isinstance(manager, FunctionType) and manager.__code__ is _GENERATOR_BASED:
        function: Any = getattr(manager, "__wrapped__", None)
        if isinstance(function, FunctionType):
            code = _Code(function.__code__, function.__globals__)
            yields = (step.offset for step in code.steps if step.opname == "YIELD_VALUE")
            return any(map(code.catches, yields))
    package = str(getattr(manager, "__module__", None)).partition(".")[0]
    return manager not in _PASS_ERRORS_ON and package not in _PASS_ALL_ERRORS_ON


_RAISES = frozenset({"RAISE_VARARGS", "RERAISE"})
_LEAVES = frozenset({"RETURN_VALUE", "RETURN_CONST", "RETURN_GENERATOR", "YIELD_VALUE", "SEND"})
_ANSWERS_OF_PYTHON = frozenset(
    {"StopIteration", "StopAsyncIteration", "AttributeError", "IndexError", "KeyError"}
)
"""Errors that Python itself catches, in a `for` loop or in `hasattr`: they are answers."""

_PASSED_OVER = frozenset({"TO_BOOL", "CACHE", "PRECALL", "NOT_TAKEN", "EXTENDED_ARG", "NOP"})
_CALLS = frozenset({"CALL", "CALL_FUNCTION_EX", "CALL_KW", "PRECALL"})


_NAMES = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FAST", "LOAD_DEREF", "LOAD_CLASSDEREF")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")


class _Code:
    """The branches of a function.

    Attributes:
        steps: its instructions.
        names: what names stand for in it, as far as that is known.
    """

    def __init__(self, code: CodeType, names: Mapping[str, Any]) -> None:
        self.names = names
        self.steps: Sequence[dis.Instruction] = list(dis.get_instructions(code))
        self.offsets = [step.offset for step in self.steps]
        self.handlers = [
            (entry.start, entry.end, entry.target)
            for entry in dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]  # since Python 3.11
        ]

    @classmethod
    def of(cls, frame: FrameType) -> "_Code":
        """The function that runs in a frame."""
        return cls(frame.f_code, ChainMap(frame.f_locals, frame.f_globals, frame.f_builtins))

    def at(self, offset: int) -> int:
        """The place of an instruction."""
        return bisect.bisect_left(self.offsets, offset)

    def passing(self, offset: int, truth: bool) -> bool | None:
        """What the value must be that the instruction there asks for, if the other can only raise."""
        place = self.at(offset)
        if self.steps[place].opname in _CALLS:
            if not truth:
                return None
            place += 1
        negated = False
        while self.steps[place].opname in _PASSED_OVER or self.steps[place].opname == "UNARY_NOT":
            negated ^= self.steps[place].opname == "UNARY_NOT"
            place += 1
        step = self.steps[place]
        if "JUMP" not in step.opname or "POP" not in step.opname or "OR_POP" in step.opname:
            return None
        if not step.opname.endswith(("IF_TRUE", "IF_FALSE")):
            return None
        jumps_if = step.opname.endswith("IF_TRUE")
        jumping, going_on = self.only_raises(self.at(step.argval)), self.only_raises(place + 1)
        if jumping == going_on:
            return None
        return (jumps_if ^ jumping) ^ negated

    def only_raises(self, start: int, seen: frozenset[int] = frozenset()) -> bool:
        """Whether every way on from a place ends in an error that leaves the function."""
        visited = set(seen)
        waiting = [start]
        while waiting:
            place = waiting.pop()
            if place in visited or place >= len(self.steps):
                continue
            visited.add(place)
            step = self.steps[place]
            if step.opname in _LEAVES or step.argval in _ANSWERS_OF_PYTHON:
                return False
            if step.opname in _RAISES:
                if self.catches(step.offset, frozenset(visited)):
                    return False
                continue
            if "JUMP" in step.opname or step.opname in {"FOR_ITER", "SEND"}:
                waiting.append(self.at(step.argval))
            if step.opname not in {"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"}:
                waiting.append(place + 1)
        return True

    def catches(self, offset: int, seen: frozenset[int] = frozenset()) -> bool:
        """Whether an error at this offset may be handled by the function itself."""
        for start, end, target in self.handlers:
            if start <= offset < end:
                place = self.at(target)
                if self._ends_with(place):
                    again = next(step.offset for step in self.steps[place:] if step.opname == "RERAISE")
                    return _swallows(self._manager(target)) or self.catches(again, seen)
                return not self.only_raises(place, seen)
        return False

    def _ends_with(self, place: int) -> bool:
        """Whether a handler is the end of a `with` block."""
        return any(step.opname == "WITH_EXCEPT_START" for step in self.steps[place : place + 2])

    def _manager(self, target: int) -> Any:
        """The class of a `with` block's context manager, or the function that makes it; None if not known.

        Args:
            target: offset of the handler in which the block ends.
        """
        last = self.at(min(start for start, _, into in self.handlers if into == target)) - 1
        if self.steps[last].opname != "BEFORE_WITH":
            return None
        first, left = last, 0
        while left < 1 and first > 0:  # back to where the stack was as it is before the expression
            first -= 1
            step = self.steps[first]
            argument = step.arg if step.opcode >= dis.HAVE_ARGUMENT else None
            left += dis.stack_effect(step.opcode, argument, jump=False)
        made = [step for step in self.steps[first:last] if step.opname not in {"PUSH_NULL", "PRECALL"}]
        calls = [step.opname for step in made if step.opname in _CALLS]
        if made[0].opname not in _NAMES or len(calls) > 1 or (calls and made[-1].opname != calls[0]):
            return None
        found = self.names.get(made[0].argval)
        for step in made[1:]:
            if step.opname not in _ATTRIBUTES:
                break
            found = getattr(found, step.argval, None) if isinstance(found, ModuleType | type) else None
        if calls:
            return found if isinstance(found, type | FunctionType) else None
        return type(found)


def reader(*between: str) -> FrameType | None:
    """The frame that asks for a value: the innermost one that is not fedplan's, nor from these files."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (
        source.is_tracer(frame.f_code.co_filename) or frame.f_code.co_filename.endswith((*_MODES, *between))
    ):
        frame = frame.f_back
    return frame


_MODES = (
    "torch/_ops.py",
    "torch/_compile.py",
    "torch/_dynamo/eval_frame.py",
    "torch/utils/_python_dispatch.py",
    "torch/fx/experimental/proxy_tensor.py",
)
"""Files of PyTorch through which a mode is called."""
