"""What is noted while the author's function runs: for each operation, its place in the author's code."""

from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar

import torch
from torch._C._autograd import _get_sequence_nr
from torch.fx import traceback as fx_traceback
from torch.utils._python_dispatch import TorchDispatchMode

from fedplan.plan.tracing import reads, source
from fedplan.plan.tracing.repeatable import Trail

READ = torch.ops.aten._local_scalar_dense.default
"""What `.item()`, `float(t)` and `if t` come to."""


class Notes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # its hook for subclasses
    """Sees each operation before the tracer does, and tells it the place; the tracer keeps it with its node.

    An operation of a gradient has the place of the operation whose gradient it computes. Autograd numbers its
    functions one by one as it makes them, just before an operation reaches this mode.
    """

    running: ClassVar["Notes | None"] = None
    """Those that are taken now. PyTorch's tracer is one for the whole process."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trail = Trail()
        """What the function did."""
        self._places: dict[int, str | None] = {}  # by the number of an autograd function
        self._seen = _get_sequence_nr()
        self._failure: tuple[BaseException, str | None] | None = None
        self._unanswered: BaseException | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is READ:
            answer = reads.passing(reads.reader(), truth=args[0].dtype == torch.bool)
            if answer is not None:
                return answer
        place = self.place()
        fx_traceback.set_stack_trace([] if place is None else [place])
        try:
            return self.trail.run(func, args, kwargs or {})
        except Exception as error:
            self._failure = (error, place)
            if func is READ:
                self.note_unanswered(reads.reader(), error)
            raise

    def note_unanswered(self, frame: FrameType | None, error: BaseException) -> None:
        """Notes that the author's code read a value that a Plan does not have.

        The error may end in that code, at a context manager of its own, say. What was recorded then is what
        follows the error, and no run would come there.
        """
        if frame is not None and source.is_authors(frame):
            self._unanswered = error

    def taken_of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with notes taken of each of its operations."""

        def noted(*args: Any) -> Any:
            Notes.running = self
            self.trail.begin(args)
            try:
                with self:
                    result = function(*args)
            finally:
                Notes.running = None
            if self._unanswered is not None:
                raise self._unanswered
            self.trail.end(result)
            return result

        return noted

    def place(self) -> str | None:
        """Where in the author's code the function is now."""
        gradient = torch._C._current_autograd_node()
        known = None if gradient is None else self._places.get(gradient._sequence_nr())
        place = known or source.here()
        made = _get_sequence_nr()
        self._places.update(dict.fromkeys(range(self._seen, made), place))
        self._seen = made
        return place

    def place_of_function(self, function: Any) -> str | None:
        """Where in the author's code autograd made one of its functions."""
        self.place()  # for those that were made since the last operation
        return self._places.get(function._sequence_nr())

    def place_of(self, error: BaseException) -> str | None:
        """Where in the author's code an error came from."""
        if self._failure is not None and self._failure[0] is error:
            return self._failure[1]
        return source.of_exception(error)
