"""Plans of one operation, and short makers of arguments for them."""

import dataclasses
from typing import Any

import torch

from fedplan.plan import OPS, Plan, PlanInput, PlanOutput
from fedplan.plan.ir.arguments import bind
from fedplan.plan.ir.graph import Arg, Graph, Node, Ref
from fedplan.plan.ops import Kind, dtype_name
from fedplan.plan.run.interpreter import fetch


@dataclasses.dataclass(frozen=True)
class Sample:
    """A call of an operation; tensors among the arguments become the Plan's inputs."""

    op: str
    args: tuple[Any, ...]

    def plan(self, strided: bool = False) -> tuple[Plan, list[torch.Tensor]]:
        """The Plan that makes the call and returns all its results, and arguments for it.

        With `strided`, the operation reads tensors of two dimensions and more through a transposition.
        """
        if OPS[self.op].kind is Kind.SIZE:
            return _of_size(self.op, self.args)
        tensors: list[torch.Tensor] = []

        def arg(value: Any) -> Arg:
            if isinstance(value, torch.Tensor):
                tensors.append(value)
                return Ref(len(tensors) - 1)
            return tuple(map(arg, value)) if isinstance(value, list | tuple) else value

        node = Node(self.op, tuple(map(arg, self.args)), ())
        made = results_of(node, tensors)
        count = len(tensors)
        results = tuple(range(count, count + len(made)))
        node = dataclasses.replace(node, results=results)
        outputs = tuple(n for n, result in zip(results, made, strict=True) if result is not None)
        if not strided:
            return _plan(Graph(tuple(range(count)), (), (node,), outputs), tensors), tensors
        alike = OPS[self.op].guard is not None  # which ask for others to lie side by side in memory
        turned = {
            i: i + 1000
            for i, tensor in enumerate(tensors)
            if tensor.dim() > 1 and not (alike and tensor.shape != tensors[0].shape)
        }
        views = [Node("aten.transpose.int", (Ref(i), 0, -1), (v,)) for i, v in turned.items()]
        node = node.replace(lambda number: Ref(turned.get(number, number)))
        given = [t.transpose(0, -1).contiguous() if i in turned else t for i, t in enumerate(tensors)]
        return _plan(Graph(tuple(range(count)), (), (*views, node), outputs), given), given


def results_of(node: Node, tensors: list[torch.Tensor]) -> list[Any]:
    """What an operation returns, None for what it leaves out."""
    values = dict(enumerate(tensors))
    positional, keywords = bind(node)
    options = {name: fetch(arg, values) for name, arg in keywords.items()}
    made = OPS[node.op].call(*(fetch(arg, values) for arg in positional), **options)
    return list(made) if isinstance(made, tuple | list) else [made]


def _of_size(op: str, args: tuple[Any, ...]) -> tuple[Plan, list[torch.Tensor]]:
    """The operation on the sizes of a tensor, or on the tensor; a tensor full of the result."""
    sizes = [Node("aten.sym_size.int", (Ref(0), dim), (dim + 1,)) for dim in (0, 1)]
    node = Node(op, args, (3,))
    graph = Graph((0,), (), (*sizes, node, Node("aten.full.default", ((2,), Ref(3), "float64"), (4,))), (4,))
    given = [torch.zeros(7, 3)]
    return _plan(graph, given), given


def _plan(graph: Graph, given: list[torch.Tensor]) -> Plan:
    inputs = tuple(PlanInput(f"input {i}", tuple(t.shape), dtype_name(t.dtype)) for i, t in enumerate(given))
    return Plan("sample", inputs, tuple(PlanOutput(f"output {i}") for i in range(len(graph.outputs))), graph)


_chance = torch.Generator().manual_seed(0)


def f(*shape: int) -> torch.Tensor:
    """Numbers from -1 to 1."""
    return torch.rand(shape, generator=_chance) * 2 - 1


def p(*shape: int) -> torch.Tensor:
    """Numbers from 0.1 to 0.9."""
    return torch.rand(shape, generator=_chance) * 0.8 + 0.1


def d(*shape: int) -> torch.Tensor:
    """The same with 64 bits."""
    return p(*shape).double()


def i(high: int, *shape: int) -> torch.Tensor:
    """Whole numbers below `high`."""
    return torch.randint(0, high, shape, generator=_chance)


def b(*shape: int) -> torch.Tensor:
    """Truth values."""
    return f(*shape) > 0


INF = float("inf")
N = Ref(1)
"""In samples of sizes: 7."""
M = Ref(2)
"""In samples of sizes: 3."""
