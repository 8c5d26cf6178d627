"""Operations of PyTorch said with those of the op table, where the table has no row for them.

There are two moments for it. *Before* autograd looks, the operation becomes a composition of others, and
autograd derives the gradient of these. *After*, autograd has used the gradient that it knows for the
operation, and what it recorded is rewritten. PyTorch's own core ATen decompositions are of the second kind;
most of what is here is what they leave out.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch._C import DispatchKey
from torch._decomp import core_aten_decompositions
from torch._subclasses.fake_impls import op_implementations_dict

from fedplan.plan.ops import OPS, overload
from fedplan.plan.tracing import batched
from fedplan.plan.tracing.decompositions import (
    elements,
    indexing,
    layers,
    linear_algebra,
    losses,
    sampling,
    statistics,
)

Function = Callable[..., Any]

_BEFORE: Mapping[Any, Function] = {
    **layers.BEFORE,
    **linear_algebra.BEFORE,
    **losses.BEFORE,
    **sampling.BEFORE,
    **statistics.BEFORE,
}

_AFTER: Mapping[Any, Function] = {
    **elements.AFTER,
    **indexing.AFTER,
    **layers.AFTER,
    **linear_algebra.AFTER,
}

FUNCTIONS: Mapping[Function, Function] = {
    **indexing.FUNCTIONS,
    **layers.FUNCTIONS,
    **losses.FUNCTIONS,
    **sampling.FUNCTIONS,
    **statistics.FUNCTIONS,
}
"""Functions of PyTorch that choose an operation where a Plan has a better one."""

_KEYS = (DispatchKey.CompositeImplicitAutograd, DispatchKey.Autograd)
"""Where PyTorch looks for what an operation is composed of."""


@functools.cache
def after_autograd() -> Mapping[Any, Function]:
    """Decompositions of what was recorded: core ATen's and fedplan's, but for what the op table holds."""
    kept = set(_kept())
    rules: Mapping[Any, Function] = {**core_aten_decompositions(), **_AFTER}
    return {op: rules[op] for op in rules if op not in kept or op in _AFTER}


@contextlib.contextmanager
def before_autograd() -> Iterator[None]:
    """While it lasts, operations of PyTorch are composed as fedplan says."""
    with _kernels({op: dict.fromkeys(_KEYS, function) for op, function in _BEFORE.items()}):
        yield


@contextlib.contextmanager
def any_batch() -> Iterator[None]:
    """While it lasts, `torch.func.vmap` takes batches of any size."""
    with _kernels({op: {batched.KEY: rule} for op, rule in batched.RULES.items()}):
        yield


@contextlib.contextmanager
def rows_whole() -> Iterator[None]:
    """While it lasts, operations that are rows are composed of nothing.

    PyTorch composes some operations of others when it traces, an interpolation for one, that then take
    several times as long as their kernel.
    """
    changes: dict[Any, dict[Any, None]] = {}
    for op in _kept():
        packet = getattr(torch.ops.aten, op._schema.name.removeprefix("aten::"))
        for name in packet.overloads():
            changes[getattr(packet, name)] = dict.fromkeys(_KEYS)
    with _kernels(changes):
        yield


@contextlib.contextmanager
def known_shapes() -> Iterator[None]:
    """While it lasts, the shapes of all rows' results are known, also where PyTorch does not know them."""
    rows = {overload(op.name): op.shapes for op in OPS.values() if op.shapes is not None}
    shapes = {**rows, **linear_algebra.SHAPES}
    try:
        op_implementations_dict.update((op, _foreseen(function)) for op, function in shapes.items())
        yield
    finally:
        for op in shapes:
            del op_implementations_dict[op]


def _foreseen(shapes: Function) -> Function:
    return lambda mode, op, *args, **options: shapes(*args, **options)


def _kept() -> list["torch._ops.OpOverload"]:
    """Operations of PyTorch that are rows of traced Plans."""
    rows = (overload(op.name) for op in OPS.values() if op.traced and op.implementation is None)
    return [op for op in rows if op.namespace == "aten"]


@contextlib.contextmanager
def _kernels(changes: Mapping[Any, Mapping[Any, Any]]) -> Iterator[None]:
    """PyTorch's operators with other functions of Python for some keys, or with none."""
    before = {op: dict(op.py_kernels) for op in changes}
    try:
        for op, functions in changes.items():
            changed = {k: f for k, f in {**before[op], **functions}.items() if f is not None}
            _set_kernels(op, changed)
        yield
    finally:
        for op, functions_before in before.items():
            _set_kernels(op, functions_before)


def _set_kernels(op: "torch._ops.OpOverload", functions: Mapping[Any, Function]) -> None:
    if op.py_kernels != functions:
        op.py_kernels.clear()
        op.py_kernels.update(functions)
        op._dispatch_cache.clear()
