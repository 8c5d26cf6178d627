"""`trace`: any function of tensors that PyTorch can trace becomes a Plan."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fedplan.errors import TraceError
from fedplan.plan.ops import DTYPES, dtype_name
from fedplan.plan.plan import Plan
from fedplan.plan.signature import PlanInput, PlanOutput
from fedplan.plan.spec import BATCH, PlanInputSpec, PlanOutputSpec
from fedplan.plan.tracing import ways_out
from fedplan.plan.tracing.draws import RandomInput
from fedplan.plan.tracing.first_run import Reference, check_first_run, expected_of
from fedplan.plan.tracing.held_tensors import check_held_tensors
from fedplan.plan.tracing.lower import lower
from fedplan.plan.tracing.python_state import why_not_repeated
from fedplan.plan.tracing.sizes import Assumption
from fedplan.plan.tracing.symbolic import record, repeats
from fedplan.plan.tracing.unchanged import Snapshot


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """One input of a function that is traced.

    Attributes:
        name: for messages and listings.
        tensor: shows its shape and dtype.
        spec: what it stands for.
        free: its first dimension may have any size.
    """

    name: str
    tensor: torch.Tensor
    spec: PlanInputSpec | None = None
    free: bool = False

    @classmethod
    def example(
        cls, leaf: Any, index: int, spec: PlanInputSpec | None = None, *, pinned: bool = False
    ) -> "Given":
        """An input for an example that the author gave.

        Raises:
            TraceError: it is no tensor, array or number of a dtype that a Plan may hold.
        """
        try:
            tensor = torch.as_tensor(leaf)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TraceError(
                f"example {index} is a {type(leaf).__name__}, not a tensor, array or number"
            ) from error
        if dtype_name(tensor.dtype) not in DTYPES:
            advice = ". Give its two parts: torch.view_as_real(…)" if tensor.is_complex() else ""
            raise TraceError(
                f"example {index} has the dtype {tensor.dtype}; a Plan's are {', '.join(DTYPES)}{advice}"
            )
        if tensor.layout != torch.strided:
            raise TraceError(f"example {index} is sparse, and a Plan's tensors are not: give `x.to_dense()`")
        if tensor.is_meta:
            raise TraceError(f"example {index} is on the device 'meta' and has no values")
        if spec is not None and spec.type in BATCH and tensor.dim() and not tensor.shape[0]:
            raise TraceError(f"example {index} has no rows: give a batch as it is trained on")
        free = not pinned and _may_vary(tensor, spec)
        return cls(f"input {index}" if spec is None else spec.label, tensor.cpu(), spec, free)


def _may_vary(tensor: torch.Tensor, spec: PlanInputSpec | None) -> bool:
    """Whether the first dimension counts samples."""
    if tensor.dim() == 0:
        return False
    if spec is not None:
        return spec.type in BATCH
    return not tensor.requires_grad and tensor.shape[0] > 1


def trace(
    function: Callable[..., Any],
    *examples: Any,
    name: str | None = None,
    inputs: Sequence[PlanInputSpec] | None = None,
    outputs: Sequence[PlanOutputSpec] | None = None,
    pin_batch: bool = False,
) -> Plan:
    """Makes a Plan of a function of tensors.

    The function runs on stand-ins without values; what it does to them becomes the Plan's op list. It runs
    twice, so that what it keeps from run to run, which a Plan cannot, is found out.
    Gradients (`loss.backward()`, `torch.autograd.grad`) and `torch.optim` steps are part of it. Tensors that
    the function holds itself become the Plan's state, unless it writes to them or a gradient goes to them.
    Inputs are never changed: what a function does to them in place is visible only through what it returns.
    At last the Plan runs once on the examples, so that a wrong dtype is found here and not by a worker.

    The Plan works for any batch size: the first dimension of the data and target inputs may have any size
    from one up. Without `inputs` that holds for every example of more than one row that requires no gradient.

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
    for kind, specs in (("inputs", inputs), ("outputs", outputs)):
        if any(not isinstance(spec, PlanInputSpec | PlanOutputSpec) for spec in specs or ()):
            raise TraceError(f"`{kind}` must be a list of PlanInputSpec or PlanOutputSpec")
    leaves, structure = pytree.tree_flatten(list(examples))
    if inputs is not None and len(inputs) != len(leaves):
        raise TraceError(
            f"{len(inputs)} input specs for {len(leaves)} inputs (nested examples count one by one)"
        )
    given = [
        Given.example(leaf, i, inputs[i] if inputs else None, pinned=pin_batch)
        for i, leaf in enumerate(leaves)
    ]

    def flat(*values: torch.Tensor) -> list[torch.Tensor]:
        results, _ = pytree.tree_flatten(function(*pytree.tree_unflatten(list(values), structure)))
        return [_result(value, index) for index, value in enumerate(results)]

    def described(count: int) -> list[PlanOutput]:
        if outputs is None:
            return [PlanOutput(f"output {index}") for index in range(count)]
        if len(outputs) != count:
            raise TraceError(f"{len(outputs)} output specs for {count} outputs")
        return [PlanOutput(spec.label, spec) for spec in outputs]

    title = name or str(getattr(function, "__name__", "plan"))
    return make_plan(
        flat,
        given,
        described,
        title,
        must_stay_free=inputs is not None,
        reference=lambda *values: expected_of(flat(*values), values),
    )


def make_plan(
    function: Callable[..., list[torch.Tensor]],
    given: Sequence[Given],
    outputs: Callable[[int], Sequence[PlanOutput]],
    name: str,
    *,
    must_stay_free: bool = True,
    own: Mapping[str, torch.Tensor] | None = None,
    counters: Mapping[str, torch.Tensor] | None = None,
    kept: Snapshot | None = None,
    reference: Reference | None = None,
) -> Plan:
    """The Plan of a function of a flat list of tensors.

    Args:
        function: called with as many tensors as are given; returns a flat list.
        given: its inputs.
        outputs: for a number of outputs, what they are.
        name: name of the Plan.
        must_stay_free: a function that works for one batch size only is an error.
        own: tensors of the author's model by name, which must not become the Plan's.
        counters: see `check_held_tensors`.
        kept: the author's modules as they were before.
        reference: what is to come out; see `check_first_run`.

    Raises:
        TraceError: see `trace`.
        UnsupportedOpError: see `trace`.
    """
    examples, free = [item.tensor for item in given], [item.free for item in given]
    recording = record(function, examples, free, must_stay_free)
    check_held_tensors(recording, own or {}, counters or {})
    if not repeats(function, examples, free, recording.trail, () if kept is None else kept.left()):
        raise TraceError(why_not_repeated(kept))
    graph = lower(recording.module, recording.constants)
    inputs = [
        PlanInput(item.name, shape, dtype_name(item.tensor.dtype), item.spec)
        for item, shape in zip(given, recording.shapes, strict=True)
    ]
    data = [item.tensor.detach() for item, known in zip(given, inputs, strict=True) if known.is_data]
    plan = Plan(
        name=name,
        inputs=(*inputs, *(_random_input(item, number) for number, item in enumerate(recording.random))),
        outputs=tuple(outputs(len(graph.outputs))),
        graph=graph,
        example=tuple(data),
    )
    _check_other_sizes(plan, recording.assumptions)
    if kept is not None and reference is not None:
        kept.restore()  # the trace may have left tensors that have no values
    check_first_run(plan, reference, [item.tensor.detach() for item in given])
    return plan


def _check_other_sizes(plan: Plan, assumptions: Sequence[Assumption]) -> None:
    """Refuses a Plan that runs with a size for which PyTorch would have taken another path."""
    for assumption in assumptions:
        wrong = [rows for rows in assumption.rows if assumption.authors or plan.works_with(rows)]
        if wrong:
            place = ways_out.at(assumption.place)
            raise TraceError(
                f"the function takes another path for other batch sizes, such as {wrong[0]}: it asks whether "
                f"{assumption.question}{place}. A Plan has one path: remove the condition, or pin the batch "
                "size with pin_batch=True."
            )


def _random_input(item: RandomInput, number: int) -> PlanInput:
    spec = PlanInputSpec(PlanInputSpec.TYPE_RANDOM, item.distribution, number)
    return PlanInput(f"random {number}", item.shape, dtype_name(item.dtype), spec)


def _result(value: Any, index: int) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TraceError(f"output {index} of the function is {value!r}; a Plan returns tensors")
    if value.is_complex():
        raise TraceError(
            f"output {index} of the function is complex; a Plan returns real tensors: torch.view_as_real(…)"
        )
    return value.detach()
