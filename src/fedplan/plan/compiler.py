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

from fedplan.errors import PlanExecutionError
from fedplan.plan.aliasing import Memory
from fedplan.plan.fusion import EXACT, ON_CPU, ONEDNN, ROUNDING
from fedplan.plan.interpreter import KERNEL_ERRORS, describe
from fedplan.plan.ir import Graph, Node, Ref, bind
from fedplan.plan.kernels import has_onednn
from fedplan.plan.layout import channels_last
from fedplan.plan.ops import row
from fedplan.plan.patterns import rewrite
from fedplan.plan.recurrence.substitution import with_fast_recurrences
from fedplan.plan.rewrite import SIMPLIFY, apply, prune
from fedplan.plan.specialise import folded, with_fixed_inputs, with_known_sizes

Executor = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]

_DIRECT: Mapping[str, Callable[..., Any]] = {"linear": torch.nn.functional.linear} | {
    name: getattr(torch, name)
    for name in (
        "_log_softmax", "_log_softmax_backward_data", "_softmax", "_softmax_backward_data", "abs", "add",
        "addcdiv", "addcmul", "addmm", "addmv", "amax", "amin", "argmax", "argmin", "bmm",
        "cat", "ceil", "clamp", "convolution", "cos", "cumsum", "div", "embedding", "eq", "erf", "exp",
        "expm1", "floor", "gather", "ge", "gt", "index_select", "le", "lerp", "log", "log1p", "lt",
        "maximum", "mean", "minimum", "mm", "mul", "native_layer_norm", "ne", "neg", "permute", "pow",
        "prod", "reciprocal", "relu", "reshape", "round", "rsqrt", "rsub", "scatter", "select", "sigmoid",
        "sign", "sin", "sqrt", "squeeze", "sub", "sum", "tanh", "trunc", "unsqueeze", "where",
    )
}  # fmt: skip
"""Operations for which a function of torch takes the same arguments, and is quicker to call."""

_FLOATS = frozenset((torch.float32, torch.float64))

_EXACT_INTEGER = 2**24
"""Whole numbers up to this one are the same in float32."""

_MANY = frozenset({"split", "split_with_sizes", "chunk", "unbind"})
"""Operations that return a list, also when it has one element."""


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """What a caller that runs a Plan over and over grants.

    Attributes:
        fixed: inputs of one element that always have this value, as (place, value).
        carried: (place of an output, place of an input): the caller gives up the input, which is contiguous
            and has memory of its own, and passes the output in its place the next time.
    """

    fixed: tuple[tuple[int, float], ...] = ()
    carried: tuple[tuple[int, int], ...] = ()


def compile_graph(
    graph: Graph, values: Mapping[int, Any], inputs: Sequence[torch.Tensor], terms: Terms | None = None
) -> Executor:
    """An executor for inputs of exactly the shapes and dtypes that were checked.

    Args:
        graph: a verified graph.
        values: what the check found for every value: a meta tensor, or a size as a number.
        inputs: the arguments that it was checked with.
        terms: what the caller grants. With them the update is fused into its gradient: results differ by
            rounding, and inputs that were given up are written over.
    """
    device = inputs[0].device if inputs else torch.device("cpu")
    known = dict(values)
    graph = with_known_sizes(graph, known)
    if terms is not None:
        fixed = {graph.inputs[place]: inputs[place] for place, _ in terms.fixed}
        graph = with_fixed_inputs(graph, known, fixed)
    graph = folded(graph, known, device)
    graph = rewrite(graph, known, EXACT if terms is None else (*EXACT, *ROUNDING))
    if terms is not None and device.type == "cpu":
        graph = channels_last(graph, known)
        graph = rewrite(graph, known, (*ON_CPU, *ONEDNN) if has_onednn() else ON_CPU)
    graph = prune(folded(apply(graph, SIMPLIFY), known, device))
    if terms is not None:
        graph = with_fast_recurrences(graph, known, device.type == "cpu")
    return _Program(graph, known, device, terms or Terms()).build(inference=terms is not None)


class _Program:
    """The lines of one executor, and the names that they use."""

    def __init__(self, graph: Graph, values: Mapping[int, Any], device: torch.device, terms: Terms) -> None:
        self.graph = graph
        self.values = values
        self.device = device
        self.carried = {output for output, _ in terms.carried}
        self.memory = Memory(graph, values, [graph.inputs[place] for _, place in terms.carried])
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
            self._statement(node, self.memory.may_overwrite(node, position))
            freed = [f"v{number}" for number in dying if number not in self.constants]
            if freed:
                self._add(f"del {', '.join(freed)}")
        self._add(f"return [{', '.join(map(self._output, range(len(self.graph.outputs))))}]")
        exec(compile("\n".join(self.lines), _FILE, "exec"), self.names)
        return _reporting(
            self.names["run"], self.makers, torch.inference_mode if inference else torch.no_grad
        )

    def _add(self, line: str) -> None:
        self.lines.append(f"    {line}")

    def _output(self, place: int) -> str:
        """What is carried to the next run is contiguous and shares no memory; no constant is handed out."""
        number = self.graph.outputs[place]
        if place in self.carried:
            own = self.memory.is_own(number)
            return f"v{number}.contiguous()" if own else f"v{number}.clone(memory_format=contiguous)"
        return f"v{number}.clone()" if number in self.constants else f"v{number}"

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
            if type(arg) is not type(defaults.get(name)) or arg != defaults.get(name)
        ]
        results = ", ".join(f"v{r}" for r in node.results)
        many = "," if node.op.split(".")[1] in _MANY else ""
        self._add(f"{results}{many} = {self._function(node.op, over)}({', '.join(args)})")
        self.makers[len(self.lines)] = node

    def _function(self, op: str, over: bool) -> str:
        """The name under which the lines call an operation."""
        _, packet, variant = op.split(".")
        name = f"{packet}_{variant}_over" if over else f"{packet}_{variant}"
        if name not in self.names:
            direct = getattr(torch.Tensor, f"{packet}_") if over else _DIRECT.get(packet)
            call = row(op).call
            self.names[name] = direct or getattr(call, "_op", call)  # an OpOverload's C function
        return name

    def _scalar(self, node: Node, value: float) -> str:
        """A number where a tensor is wanted: a tensor made once, not in each run, where that is the same."""
        dtypes = {self.values[number].dtype for number in (*node.refs(), *node.results)}
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


_FILE = "<plan>"


def _reporting(run: Executor, makers: Mapping[int, Node], mode: Callable[[], Any]) -> Executor:
    """The executor in a mode without gradients, and with errors that name the operation."""

    def executor(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        try:
            with mode():
                return run(inputs)
        except KERNEL_ERRORS as error:
            frames = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in frames if frame.filename == _FILE), None)
            culprit = describe(makers[line]) if line is not None and line in makers else "the Plan"
            raise PlanExecutionError(f"{culprit} failed: {error}") from error

    return executor
