"""The fast executor: straight-line Python made from a graph for given shapes.

What it saves against the interpreter, with the same kernels and so the same results: the walk over the
graph, arithmetic on sizes (they are numbers here), PyTorch's slow generic call path, and memory, by freeing
values after their last use and by writing pointwise results over arguments that nobody needs any more.
"""

import dataclasses
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from fedplan.errors import PlanExecutionError
from fedplan.plan.ir.arguments import bind
from fedplan.plan.ir.graph import Graph, Node, Ref, exact
from fedplan.plan.ir.rewrite import SIMPLIFY, apply, dtypes, prune
from fedplan.plan.ops import Op, Trait, overload, row
from fedplan.plan.ops.executor import has_onednn
from fedplan.plan.recurrence.substitution import with_fast_recurrences
from fedplan.plan.run.aliasing import Aliasing
from fedplan.plan.run.channels_last import channels_last
from fedplan.plan.run.fusion import EXACT, ON_CPU, ONEDNN, ROUNDING
from fedplan.plan.run.interpreter import KERNEL_ERRORS, describe
from fedplan.plan.run.patterns import PatternRule, rewrite
from fedplan.plan.run.precision import without_autocast
from fedplan.plan.run.specialise import folded, with_fixed_inputs, with_known_sizes

Executor = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]

_FLOATS = frozenset((torch.float32, torch.float64))

_EXACT_INTEGER = 2**24
"""Whole numbers up to this one are the same in float32."""


@dataclasses.dataclass(frozen=True, slots=True)
class Repetition:
    """What a caller that runs a Plan over and over grants.

    Attributes:
        fixed: inputs of one element that always have this value, as (place, value).
        carried: (place of an output, place of an input): the caller gives up the input, which is contiguous
            and has memory of its own, and passes the output in its place the next time.
    """

    fixed: tuple[tuple[int, float], ...] = ()
    carried: tuple[tuple[int, int], ...] = ()


def compile_graph(
    graph: Graph,
    values: Mapping[int, Any],
    inputs: Sequence[torch.Tensor],
    repetition: Repetition | None = None,
) -> Executor:
    """An executor for inputs of exactly the shapes and dtypes that were checked.

    Args:
        graph: a verified graph.
        values: what the check found for every value: a meta tensor, or a size as a number.
        inputs: the arguments that it was checked with.
        repetition: what the caller grants. With them the update is fused into its gradient: results differ by
            rounding, and inputs that were given up are written over.
    """
    device = inputs[0].device if inputs else torch.device("cpu")
    known = dict(values)
    rules = EXACT if repetition is None else (*EXACT, *ROUNDING)
    graph = specialised(graph, known, inputs, repetition, rules)
    if repetition is not None and device.type == "cpu":
        graph = channels_last(graph, known)
        graph = rewrite(graph, known, (*ON_CPU, *ONEDNN) if has_onednn() else ON_CPU)
    graph = prune(folded(apply(graph, SIMPLIFY, dtypes(known)), known, device))
    if repetition is not None:
        graph = with_fast_recurrences(graph, known, device.type == "cpu")
    return assembled(graph, known, device, repetition)


def specialised(
    graph: Graph,
    values: dict[int, Any],
    inputs: Sequence[torch.Tensor],
    repetition: Repetition | None,
    rules: Sequence[PatternRule],
) -> Graph:
    """The graph for these shapes, without what is known before it runs, after rules.

    Args:
        graph: a verified graph.
        values: what the check found for every value; those of new operations are added.
        inputs: arguments, of which those that `repetition` fixes are compiled in.
        repetition: what the caller grants.
        rules: patterns and what to put in their place.
    """
    device = inputs[0].device if inputs else torch.device("cpu")
    graph = with_known_sizes(graph, values)
    if repetition is not None:
        fixed = {graph.inputs[place]: inputs[place] for place, _ in repetition.fixed}
        graph = with_fixed_inputs(graph, values, fixed)
    return rewrite(folded(graph, values, device), values, rules)


def assembled(
    graph: Graph, values: Mapping[int, Any], device: torch.device, repetition: Repetition | None
) -> Executor:
    """The executor of a graph as it is.

    Args:
        graph: operations that Plans or executors may hold.
        values: every value by its number.
        device: where it runs.
        repetition: what the caller grants.
    """
    program = _Program(graph, values, device, repetition or Repetition())
    return program.build(inference=repetition is not None)


class _Program:
    """The lines of one executor, and the names that they use."""

    def __init__(
        self, graph: Graph, values: Mapping[int, Any], device: torch.device, repetition: Repetition
    ) -> None:
        self.graph = graph
        self.values = values
        self.device = device
        self.carried = {output for output, _ in repetition.carried}
        self.aliasing = Aliasing(graph, values, [graph.inputs[place] for _, place in repetition.carried])
        self.names: dict[str, Any] = {"contiguous": torch.contiguous_format}
        self.lines: list[str] = ["def run(inputs):"]
        self.makers: dict[int, Node] = {}  # by line number
        self.constants = {number for number, _ in graph.constants}

    def build(self, inference: bool) -> Executor:
        for number, constant in self.graph.constants:
            self.names[f"v{number}"] = constant.to(self.device)
        if self.graph.inputs:
            self._add(f"{', '.join(f'v{i}' for i in self.graph.inputs)}, = inputs")
        for position, (node, dying) in enumerate(zip(self.graph.nodes, self.graph.last_uses(), strict=True)):
            self._statement(node, self.aliasing.may_overwrite(node, position))
            freed = [f"v{number}" for number in dying if number not in self.constants]
            if freed:
                self._add(f"del {', '.join(freed)}")
        self._add(f"return [{', '.join(map(self._output, range(len(self.graph.outputs))))}]")
        # The lines hold names made here, operations of the table, and literals that `repr` has quoted.
        exec(compile("\n".join(self.lines), _FILE, "exec"), self.names)  # nosec B102
        return _reporting(
            self.names["run"], self.makers, torch.inference_mode if inference else torch.no_grad, self.device
        )

    def _add(self, line: str) -> None:
        self.lines.append(f"    {line}")

    def _output(self, place: int) -> str:
        """What is carried to the next run is contiguous and shares no memory; no constant is handed out."""
        number = self.graph.outputs[place]
        if place in self.carried:
            own = self.aliasing.is_own(number)
            return f"v{number}.contiguous()" if own else f"v{number}.clone(memory_format=contiguous)"
        return f"v{number}.clone()" if self.aliasing.group(number) in self.constants else f"v{number}"

    def _statement(self, node: Node, over: bool) -> None:
        positional, keywords = bind(node, self.device)
        kinds = (argument.type for argument in row(node.op).arguments)
        args = [
            self._scalar(node, arg) if kind == "Tensor" and isinstance(arg, int | float) else self._text(arg)
            for kind, arg in zip(kinds, positional, strict=False)
        ]
        defaults = {argument.name: argument.default for argument in row(node.op).arguments}
        args += [
            f"{name}={self._text(arg)}"
            for name, arg in keywords.items()
            if exact(arg) != exact(defaults.get(name))
        ]
        results = ", ".join(f"v{r}" for r in node.results)
        many = "," if Trait.LIST in row(node.op).traits else ""
        self._add(f"{results}{many} = {self._function(node.op, over)}({', '.join(args)})")
        self.makers[len(self.lines)] = node

    def _function(self, op: str, over: bool) -> str:
        """The name under which the lines call an operation."""
        name = op.replace(".", "_") + ("_over" if over else "")
        if name not in self.names:
            self.names[name] = _in_place(row(op)) if over else _quickest(row(op))
        return name

    def _scalar(self, node: Node, value: float) -> str:
        """A number where a tensor is wanted: a tensor made once, not in each run, where that is the same."""
        tensors = [
            v for v in map(self.values.get, (*node.refs(), *node.results)) if isinstance(v, torch.Tensor)
        ]
        dtypes = {tensor.dtype for tensor in tensors}
        if len(dtypes) > 1 or not dtypes <= _FLOATS or abs(value) > _EXACT_INTEGER:
            return self._text(value)
        name = f"c{len(self.names)}"
        self.names[name] = torch.tensor(value, dtype=dtypes.pop())
        return name

    def _text(self, arg: Any) -> str:
        if isinstance(arg, Ref):
            return f"v{arg.id}"
        if isinstance(arg, tuple):
            return f"[{', '.join(map(self._text, arg))}]"
        if isinstance(arg, torch.dtype | torch.device) or (isinstance(arg, float) and not math.isfinite(arg)):
            name = f"c{len(self.names)}"
            self.names[name] = arg
            return name
        return repr(arg)


def _in_place(op: Op) -> Callable[..., Any]:
    """What writes an operation's result over its first argument."""
    function: Callable[..., Any] | None = getattr(torch.Tensor, f"{op.packet}_", None)
    return function or _gradient_in_place(op)


def _gradient_in_place(op: Op) -> Callable[..., Any]:
    """The same for the gradient of an activation; its first argument is the gradient of what comes after."""
    into = overload(f"aten.{op.packet}.grad_input")._op

    def call(gradient: torch.Tensor, *rest: Any) -> Any:
        return into(gradient, *rest, grad_input=gradient)

    return call


def _quickest(op: Op) -> Callable[..., Any]:
    """What computes an operation with the least time spent on the call."""
    if Trait.DIRECT in op.traits:
        places = (torch, functional, torch.Tensor)
        direct: Callable[..., Any] = next(
            getattr(place, op.packet) for place in places if hasattr(place, op.packet)
        )
        return direct
    call = op.call
    return getattr(call, "_op", call)  # an OpOverload's C function


_FILE = "<plan>"


def _reporting(
    run: Executor, makers: Mapping[int, Node], mode: Callable[[], Any], device: torch.device
) -> Executor:
    """The executor in a mode without gradients, and with errors that name the operation."""

    def executor(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        try:
            with mode(), without_autocast(device):
                return run(inputs)
        except KERNEL_ERRORS as error:
            frames = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in frames if frame.filename == _FILE), None)
            culprit = describe(makers[line]) if line is not None and line in makers else "the Plan"
            raise PlanExecutionError(f"{culprit} failed: {error}") from error

    return executor
