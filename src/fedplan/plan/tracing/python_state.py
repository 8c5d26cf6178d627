"""Whether a step depends on what a module keeps in Python from call to call, which a Plan cannot."""

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from fedplan.errors import TraceError
from fedplan.plan.plan import Plan
from fedplan.plan.tracing import source
from fedplan.plan.tracing.unchanged import Change, Snapshot


def check_python_state(snapshot: Snapshot, plan: Plan, again: Callable[[], Plan]) -> None:
    """Refuses a step whose second run does something else than its first.

    Counters, caches and flags that a module sets while it runs are followed as they are for the first step;
    where the module has set any, the step is traced once more with what it has set.

    Args:
        snapshot: the modules before the step was traced.
        plan: the step as it was traced.
        again: traces it once more.

    Raises:
        TraceError: the second run is another one; names what the module has set.
    """
    changes = snapshot.changes()
    if not changes:
        return
    for change in changes:
        vars(change.module)[change.name] = _with_values(vars(change.module).get(change.name))
    names = ", ".join(f"'{change.path}'{_forward(change.module)}" for change in _told(changes))
    reason = (
        f"the model sets {names} while it runs, and its next run depends on it. A Plan runs the same "
        "operations each time: keep such a value as a tensor in a buffer (`register_buffer`) and write to "
        "it, or do without"
    )
    try:
        second = again()
    except TraceError as error:
        raise TraceError(f"{reason} (the second run fails: {error})") from error
    if not _alike(plan, second):
        raise TraceError(reason)


def _forward(module: nn.Module) -> str:
    """Where the author defined what a module does."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    if code is None or not source.is_authors_file(code.co_filename):
        return ""
    return f" (at {source.name_of(code.co_filename)}:{code.co_firstlineno} in {type(module).__name__})"


def _told(changes: list[Change], most: int = 5) -> list[Change]:
    return list(itertools.islice({change.path: change for change in changes}.values(), most))


def _with_values(value: Any) -> Any:
    """Stand-ins that a step has left behind, as tensors of zeros."""
    if isinstance(value, FakeTensor):
        shape = [int(extent) for extent in value.shape]
        return torch.zeros(shape, dtype=value.dtype)
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(map(_with_values, value))
    return {name: _with_values(item) for name, item in value.items()} if type(value) is dict else value


def _alike(one: Plan, other: Plan) -> bool:
    """Whether two Plans are the same operations on the same constants; lines in the code may differ."""
    if str(one.graph.outputs) != str(other.graph.outputs) or len(one.state) != len(other.state):
        return False
    nodes = zip(one.graph.nodes, other.graph.nodes, strict=False)
    return (
        len(one.graph.nodes) == len(other.graph.nodes)
        and all(str(a) == str(b) for a, b in nodes)
        and all(torch.equal(a, b) for a, b in zip(one.state, other.state, strict=True))
    )
