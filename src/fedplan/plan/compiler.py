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
from fedplan.plan.interpreter import KERNEL_ERRORS, describe
from fedplan.plan.ir import Arg, Graph, Node, Ref, bind
from fedplan.plan.ops import Kind, lookup
from fedplan.plan.rewrite import prune

Executor = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]

_IN_PLACE = frozenset(
    ("abs", "add", "addcdiv", "addcmul", "ceil", "clamp", "cos", "div", "exp", "expm1", "floor", "lerp",
     "log", "log1p", "mul", "neg", "pow", "reciprocal", "relu", "round", "rsqrt", "sigmoid", "sign", "sin",
     "sqrt", "sub", "tanh", "trunc")
)  # fmt: skip
"""Pointwise operations that PyTorch can write over their first argument."""

_DIRECT = _IN_PLACE | frozenset(
    ("addmm", "amax", "amin", "argmax", "argmin", "bmm", "cat", "convolution", "cumsum", "embedding", "eq",
     "erf", "gather", "ge", "gt", "index_select", "le", "lt", "maximum", "mean", "minimum", "mm",
     "native_layer_norm", "ne", "permute", "prod", "reshape", "rsub", "scatter", "select", "squeeze", "sum",
     "unsqueeze", "where")
)  # fmt: skip
"""Operations whose function in the torch module takes the same arguments, and is quicker to call."""

_MANY = frozenset({"split", "split_with_sizes", "chunk", "unbind"})
"""Operations that return a list, also when it has one element."""


def compile_graph(graph: Graph, values: Mapping[int, Any], device: torch.device) -> Executor:
    """An executor for inputs of exactly the shapes and dtypes that were checked.

    Args:
        graph: a verified graph.
        values: what the check found for every value: a meta tensor, or a size as a number.
        device: where the inputs are.
    """
    return _Program(prune(_with_known_sizes(graph, values)), values, device).build()


def _with_known_sizes(graph: Graph, values: Mapping[int, Any]) -> Graph:
    """The graph with sizes as numbers in place of the operations that compute them."""

    def known(number: int) -> Arg:
        value = values[number]
        return value if isinstance(value, int | float) else Ref(number)

    nodes = tuple(n.replace(known) for n in graph.nodes if lookup(n.op).kind is not Kind.SIZE)
    return dataclasses.replace(graph, nodes=nodes)


class _Program:
    """The lines of one executor, and the names that they use."""

    def __init__(self, graph: Graph, values: Mapping[int, Any], device: torch.device) -> None:
        self.graph = graph
        self.values = values
        self.device = device
        self.names: dict[str, Any] = {}
        self.lines: list[str] = ["def run(inputs):"]
        self.makers: dict[int, Node] = {}  # by line number
        self.constants = {number for number, _ in graph.constants}
        self.shared = graph.defined()  # values whose memory somebody else may look at

    def build(self) -> Executor:
        for number, constant in self.graph.constants:
            self.names[f"v{number}"] = constant.to(self.device)
        if self.graph.inputs:
            self._add(f"{', '.join(f'v{i}' for i in self.graph.inputs)}, = inputs")
        for node, dying in zip(self.graph.nodes, self.graph.last_uses(), strict=True):
            self._statement(node, dying)
            freed = [f"v{number}" for number in dying if number not in self.constants]
            if freed:
                self._add(f"del {', '.join(freed)}")
        self._add(f"return [{', '.join(f'v{o}' for o in self.graph.outputs)}]")
        exec(compile("\n".join(self.lines), _FILE, "exec"), self.names)
        return _reporting(self.names["run"], self.makers)

    def _add(self, line: str) -> None:
        self.lines.append(f"    {line}")

    def _statement(self, node: Node, dying: Sequence[int]) -> None:
        over = self._may_overwrite(node, dying)
        positional, keywords = bind(node, self.device)
        args = [self._text(arg) for arg in positional]
        args += [f"{name}={self._text(arg)}" for name, arg in keywords.items()]
        results = ", ".join(f"v{r}" for r in node.results)
        many = "," if node.op.split(".")[1] in _MANY else ""
        self._add(f"{results}{many} = {self._function(node.op, over)}({', '.join(args)})")
        self.makers[len(self.lines)] = node
        if lookup(node.op).kind is Kind.VIEW:
            self.shared.update(node.results, node.refs())

    def _may_overwrite(self, node: Node, dying: Sequence[int]) -> bool:
        """Whether the result may take the first argument's memory: nobody else has it, and it fits."""
        first = node.args[0] if node.args else None
        if not (
            isinstance(first, Ref)
            and first.id in dying
            and first.id not in self.shared
            and lookup(node.op).kind is Kind.POINTWISE
            and node.op.split(".")[1] in _IN_PLACE
            and list(node.refs()).count(first.id) == 1
        ):
            return False
        before, after = self.values[first.id], self.values[node.results[0]]
        return bool(before.shape == after.shape and before.dtype == after.dtype)

    def _function(self, op: str, over: bool) -> str:
        """The name under which the lines call an operation."""
        _, packet, variant = op.split(".")
        name = f"{packet}_{variant}_over" if over else f"{packet}_{variant}"
        if name not in self.names:
            if over:
                self.names[name] = getattr(torch.Tensor, f"{packet}_")
            else:
                self.names[name] = getattr(torch, packet) if packet in _DIRECT else lookup(op).call
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


def _reporting(run: Executor, makers: Mapping[int, Node]) -> Executor:
    """The executor without gradients, and with errors that name the operation."""

    def executor(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        try:
            with torch.no_grad():
                return run(inputs)
        except KERNEL_ERRORS as error:
            frames = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in frames if frame.filename == _FILE), None)
            culprit = describe(makers[line]) if line is not None and line in makers else "the Plan"
            raise PlanExecutionError(f"{culprit} failed: {error}") from error

    return executor
