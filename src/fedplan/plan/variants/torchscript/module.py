"""A Plan as the source of a TorchScript module, and the archive of it."""

from collections.abc import Iterator, Sequence

from fedplan.plan.ir.graph import Graph, Node
from fedplan.plan.ops import OPS, Trait, lookup
from fedplan.plan.ops.op import BY_PARTS
from fedplan.plan.plan import Plan
from fedplan.plan.random import NORMAL, UNIFORM
from fedplan.plan.signature import PlanInput, leader
from fedplan.plan.variants.random_inputs import distribution, read
from fedplan.plan.variants.torchscript import library
from fedplan.plan.variants.torchscript.archive import archive
from fedplan.plan.variants.torchscript.arguments import Argument, arguments
from fedplan.plan.variants.torchscript.integers import converted
from fedplan.plan.variants.torchscript.literals import DTYPE_NUMBERS
from fedplan.plan.variants.torchscript.parts import without
from fedplan.plan.variants.torchscript.spelling import spell
from fedplan.plan.variants.torchscript.unrolled import unrolled

_KIND = "Plan"
"""Name of the module's class."""

_FUNCTIONS = {UNIFORM: "rand", NORMAL: "randn"}

_BY_PARTS = frozenset(op.name for op in OPS.values() if op.torchscript == BY_PARTS)


def write(plan: Plan) -> bytes:
    """A Plan as a TorchScript archive, which torch 1.7 and later load and compute the same with.

    The module's `forward` takes the Plan's inputs in order, with the model's parameters that follow one
    another as one `List[Tensor]`, the optimizer's tensors likewise, and returns the outputs as one
    `List[Tensor]`. Random inputs are left out: `forward` draws them itself, by `torch.rand` and
    `torch.randn`, in their order. The Plan's state is in its buffers. Value n of the Plan's graph is the
    variable ``v{n}``.

    Args:
        plan: any Plan; its sizes stay symbols, so the archive works for the batch sizes that the Plan does.

    Returns:
        The archive's bytes: for `torch.jit.load`, `torch::jit::load`, `org.pytorch.Module.load`.

    Raises:
        TranslationError: an operation cannot be said in the words of torch 1.7.
        PlanFormatError: one must be said with others, for which the Plan has to say the shapes of its inputs;
            or it asks for random numbers of a distribution that does not exist.
    """
    unrolled_graph = unrolled(plan.graph, plan.inputs)
    graph = converted(without(unrolled_graph, plan.inputs, _BY_PARTS), plan.inputs)
    tensors = [(f"v{number}", tensor) for number, tensor in graph.constants]
    drawn = [*_draws(plan.graph, plan.inputs)]
    return archive(_KIND, source(graph, arguments(plan.inputs), drawn), tensors)


def source(graph: Graph, given: list[Argument], drawn: Sequence[str] = ()) -> str:
    """The text of an archive's ``__torch__`` module.

    Args:
        graph: what it computes.
        given: the arguments of `forward`.
        drawn: the lines that draw the random inputs.
    """
    body = [*_opening(graph, given), *drawn, *map(_statement, graph.nodes)]
    outputs = ", ".join(f"v{number}" for number in graph.outputs)
    body.append(f"return [{outputs}]" if outputs else "return annotate(List[Tensor], [])")
    states = [f"v{number}" for number, _ in graph.constants]
    parameters = "".join(f", {a.name}: {'List[Tensor]' if a.listed else 'Tensor'}" for a in given)
    lines = [
        f"class {_KIND}(Module):",
        "  __parameters__ = []",
        "  __buffers__ = [" + "".join(f'"{name}", ' for name in states) + "]",
        "  training : bool",
        *(f"  {name} : Tensor" for name in states),
        f"  def forward(self: __torch__.{_KIND}{parameters}) -> List[Tensor]:",
        *(f"    {line}" for line in body),
    ]
    functions = [library.FUNCTIONS[name] for name in library.called(body)]
    return "\n".join([*lines, *functions, ""])


def _opening(graph: Graph, given: list[Argument]) -> Iterator[str]:
    """The lines that give inputs and state the names of their values."""
    for argument in given:
        names = "".join(f"v{graph.inputs[place]}, " for place in argument.inputs)
        yield f"{names.strip() if argument.listed else names.strip(', ')} = {argument.name}"
    for number, _ in graph.constants:
        yield f"v{number} = self.v{number}"


def _draws(graph: Graph, inputs: Sequence[PlanInput]) -> Iterator[str]:
    """The lines that draw the random inputs, those with the batch's rows as many as it has."""
    first = leader(inputs)
    rows = "1" if first is None else f"torch.size(v{graph.inputs[first]}, 0)"
    for place in read(graph, inputs):
        item = inputs[place]
        extents = ", ".join(rows if extent is None else str(extent) for extent in item.shape or ())
        shape = f"[{extents}]" if extents else "annotate(List[int], [])"
        dtype = DTYPE_NUMBERS[item.dtype or "float32"]
        yield f"v{graph.inputs[place]} = torch.{_FUNCTIONS[distribution(item)]}({shape}, dtype={dtype})"


def _statement(node: Node) -> str:
    names = ", ".join(f"v{number}" for number in node.results)
    several = len(node.results) != 1 or Trait.LIST in lookup(node.op).traits
    return f"{names}{', ' if several else ''} = {spell(node)}"
