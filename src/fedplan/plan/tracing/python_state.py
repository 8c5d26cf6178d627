"""What a step keeps in Python from run to run, and how it is told."""

import inspect
import itertools

from torch import nn

from fedplan.plan.tracing import source
from fedplan.plan.tracing.unchanged import Change, Snapshot

_INSTEAD = (
    "A Plan runs the same operations each time: keep such a value as a tensor in a buffer "
    "(`register_buffer`) of the model and write to it, or do without"
)


def why_not_repeated(kept: Snapshot | None) -> str:
    """Why a step that does something else in its second run cannot be a Plan.

    Args:
        kept: the modules before the step ran.
    """
    changes = [] if kept is None else kept.changes()
    if not changes:
        return (
            "a second run of the step does something else than the first one: it keeps something in Python "
            "(a count in a closure, a list, an attribute of an object), or it reads a clock or a generator "
            f"of its own. {_INSTEAD}"
        )
    names = ", ".join(f"'{change.path}'{_forward(change.module)}" for change in _told(changes))
    return f"the model sets {names} while it runs, and its next run depends on it. {_INSTEAD}"


def _forward(module: nn.Module) -> str:
    """Where the author defined what a module does."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    if code is None or not source.is_authors_file(code.co_filename):
        return ""
    return f" (at {source.name_of(code.co_filename)}:{code.co_firstlineno} in {type(module).__name__})"


def _told(changes: list[Change], most: int = 5) -> list[Change]:
    return list(itertools.islice({change.path: change for change in changes}.values(), most))
