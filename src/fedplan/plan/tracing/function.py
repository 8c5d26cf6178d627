"""`trace`: any function of tensors that PyTorch can trace becomes a Plan."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fedplan.errors import TraceError
from fedplan.plan.ir.rewrite import simplify
from fedplan.plan.ops import DTYPES, dtype_name
from fedplan.plan.plan import Plan
from fedplan.plan.signature import PlanInput, PlanOutput
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec
from fedplan.plan.tracing.lower import lower
from fedplan.plan.tracing.symbolic import record

_ROWS = (PlanInputSpec.TYPE_DATA, PlanInputSpec.TYPE_TARGET)


def trace(
    function: Callable[..., Any],
    *examples: Any,
    name: str | None = None,
    inputs: Sequence[PlanInputSpec] | None = None,
    outputs: Sequence[PlanOutputSpec] | None = None,
    pin_batch: bool = False,
) -> Plan:
    """Makes a Plan of a function of tensors.

    The function runs once, on stand-ins without values; what it does to them becomes the Plan's op list.
    Gradients (`loss.backward()`, `torch.autograd.grad`) and `torch.optim` steps are part of it. Tensors that
    the function holds itself become the Plan's state. Inputs are never changed: what a function does to them
    in place is visible only through what it returns.

    The Plan works for any batch size: the first dimension of the data and target inputs, or, without
    `inputs`, of every example that is no parameter, may have any size from one up.

    Args:
        function: takes the examples as they are given and returns a tensor, or nested lists, tuples or dicts
            of tensors.
        examples: tensors, arrays, numbers, or nested lists, tuples and dicts of them, with the shapes and
            dtypes that the Plan will be run with. The Plan's inputs are all of them, flattened in order.
        name: name of the Plan; the function's own by default.
        inputs: what each flattened input stands for, so that `job.train` can fill it.
        outputs: what each flattened output stands for, so that `job.train` can read it.
        pin_batch: keep the examples' batch size as the only one.

    Raises:
        TraceError: the function reads tensor values into Python, depends on the batch size, or fails.
        UnsupportedOpError: it uses an operation outside the op table; says which, where, and what instead.
    """
    leaves, structure = pytree.tree_flatten(list(examples))
    tensors = [_example(leaf, index) for index, leaf in enumerate(leaves)]
    if inputs is not None and len(inputs) != len(tensors):
        raise TraceError(
            f"{len(inputs)} input specs for {len(tensors)} inputs (nested examples count one by one)"
        )
    free = [
        not pin_batch and _may_vary(tensor, inputs[i] if inputs else None) for i, tensor in enumerate(tensors)
    ]

    def flat(*values: torch.Tensor) -> list[torch.Tensor]:
        results, _ = pytree.tree_flatten(function(*pytree.tree_unflatten(list(values), structure)))
        return [_result(value, index) for index, value in enumerate(results)]

    recording = record(flat, tensors, free, must_stay_free=inputs is not None)
    graph = simplify(lower(recording.module, recording.constants))
    if outputs is not None and len(outputs) != len(graph.outputs):
        raise TraceError(f"{len(outputs)} output specs for {len(graph.outputs)} outputs")
    taken = tuple(
        PlanInput(
            _input_name(inputs[i] if inputs else None, i),
            shape,
            _dtype(tensor),
            inputs[i] if inputs else None,
        )
        for i, (tensor, shape) in enumerate(zip(tensors, recording.shapes, strict=True))
    )
    return Plan(
        name=name or str(getattr(function, "__name__", "plan")),
        inputs=taken,
        outputs=tuple(
            PlanOutput(_output_name(outputs[i] if outputs else None, i), outputs[i] if outputs else None)
            for i in range(len(graph.outputs))
        ),
        graph=graph,
        example=tuple(t.detach() for t, item in zip(tensors, taken, strict=True) if item.is_data),
    )


def _example(leaf: Any, index: int) -> torch.Tensor:
    try:
        tensor = torch.as_tensor(leaf)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TraceError(
            f"example {index} is a {type(leaf).__name__}, not a tensor, array or number"
        ) from error
    if dtype_name(tensor.dtype) not in DTYPES:
        raise TraceError(f"example {index} has the dtype {tensor.dtype}; a Plan's are {', '.join(DTYPES)}")
    return tensor


def _result(value: Any, index: int) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TraceError(f"output {index} of the function is {value!r}; a Plan returns tensors")
    return value.detach()


def _may_vary(tensor: torch.Tensor, spec: PlanInputSpec | None) -> bool:
    """Whether the first dimension counts samples."""
    if tensor.dim() == 0:
        return False
    if spec is not None:
        return spec.type in _ROWS
    return not tensor.requires_grad and tensor.shape[0] > 1


def _dtype(tensor: torch.Tensor) -> str:
    return dtype_name(tensor.dtype)


def _input_name(spec: PlanInputSpec | None, index: int) -> str:
    return f"input {index}" if spec is None else _spec_name(spec.type, spec.name, spec.index)


def _output_name(spec: PlanOutputSpec | None, index: int) -> str:
    return f"output {index}" if spec is None else _spec_name(spec.type, spec.name, spec.index)


def _spec_name(type: str, name: str | None, index: int | None) -> str:
    return name or (type if index is None else f"{type} {index}")
