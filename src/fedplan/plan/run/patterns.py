"""Rewriting by patterns: a rule is what to look for, and what to put in its place.

Unlike the rules of `fedplan.plan.ir.rewrite`, these work on a graph whose shapes are known, and may say
conditions on them. They serve the fast executor; a Plan that travels is never rewritten by them.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from fedplan.plan.ir.arguments import bind, padded
from fedplan.plan.ir.graph import Arg, Graph, Node, Ref, exact
from fedplan.plan.ops import Kind, dtype_name, row
from fedplan.plan.run.interpreter import fetch

_PASSES = 8
"""Most rewritings of one graph; rules make graphs shorter, so this only bounds the time for a strange one."""

_META = torch.device("meta")


class Anything(NamedTuple):
    """Matches any argument, and keeps it under a name; the same name twice must be the same argument."""

    name: str


class AnyTensor(NamedTuple):
    """Matches a tensor that the graph has, and no number in its place; a name is kept as `Anything` does."""

    name: str


class Number(NamedTuple):
    """Matches a number, or a floating-point constant of one element, and keeps it as a number."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """An operation with these arguments. Arguments that are left out have the schema's defaults.

    As a pattern below another one it matches only a value that nothing else reads, unless it is a view:
    otherwise the work would be done twice.
    """

    op: str
    args: tuple[Any, ...]


def call(op: str, *args: Any) -> Call:
    """A `Call` of ``aten.<op>``."""
    return Call(f"aten.{op}", args)


class Match:
    """What a pattern has found."""

    def __init__(self, values: Mapping[int, Any], made: int) -> None:
        self.found: dict[str, Any] = {}
        self._values = values
        self._made = made

    @property
    def made(self) -> tuple[int, ...]:
        """Shape of what the pattern makes."""
        return tuple(self._values[self._made].shape)

    def __getitem__(self, name: str) -> Any:
        return self.found[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the tensor of that name."""
        return tuple(self._values[self.found[name].id].shape)

    def dtype(self, name: str) -> str:
        """Name of the dtype of the tensor of that name."""
        return dtype_name(self._values[self.found[name].id].dtype)

    def floats(self, *names: str) -> bool:
        """Whether these are tensors of one floating-point dtype of at least 32 bits."""
        return {self.dtype(name) for name in names} in ({"float32"}, {"float64"})


Replacement = Callable[[Match], Call | Ref | None]
"""What to put in the pattern's place; None when it does not hold for these shapes."""

PatternRule = tuple[Call, Replacement]


def rewrite(graph: Graph, values: dict[int, Any], rules: Sequence[PatternRule]) -> Graph:
    """The graph with every pattern replaced, as long as one is found.

    Args:
        graph: its operations make what `values` says.
        values: every value by its number: a meta tensor, or a size; values of new operations are added.
        rules: tried in this order at each operation.
    """
    by_op: dict[str, list[PatternRule]] = collections.defaultdict(list)
    for rule in rules:
        by_op[rule[0].op].append(rule)
    for _ in range(_PASSES):
        rewritten = _Pass(graph, values, by_op).run()
        if rewritten is graph:
            break
        graph = rewritten
    return graph


class _Pass:
    """One walk over a graph."""

    def __init__(
        self, graph: Graph, values: dict[int, Any], rules: Mapping[str, Sequence[PatternRule]]
    ) -> None:
        self.graph = graph
        self.values = values
        self.rules = rules
        self.makers: dict[int, Node] = {}
        """Operations of the new graph, by their result: those of the old one may read what is gone."""
        self.uses = collections.Counter(itertools.chain(graph.outputs, *(n.refs() for n in graph.nodes)))
        self.constants = dict(graph.constants)
        self.fresh = itertools.count(max(values, default=0) + 1)

    def run(self) -> Graph:
        nodes: list[Node] = []
        replaced: dict[int, Ref] = {}
        changed = False
        for original in self.graph.nodes:
            node = original.replace(lambda number: replaced.get(number, Ref(number)))
            answer = self._apply(node) if len(node.results) == 1 else None
            if answer is None:
                nodes.append(node)
                if len(node.results) == 1:
                    self.makers[node.results[0]] = node
                continue
            changed = True
            if isinstance(answer, Ref):
                replaced[node.results[0]] = answer
            else:
                nodes.extend(self._made(answer, node))
        if not changed:
            return self.graph
        outputs = tuple(replaced.get(number, Ref(number)).id for number in self.graph.outputs)
        return dataclasses.replace(self.graph, nodes=tuple(nodes), outputs=outputs)

    def _apply(self, node: Node) -> Call | Ref | None:
        for pattern, replacement in self.rules.get(node.op, ()):
            match = Match(self.values, node.results[0])
            if self._matches_node(pattern, node, match):
                answer = replacement(match)
                if answer is not None:
                    return answer
        return None

    def _matches_node(self, pattern: Call, node: Node, match: Match) -> bool:
        if pattern.op != node.op:
            return False
        given = padded(node)
        wanted = (*pattern.args, *_defaults(node.op)[len(pattern.args) :])
        return len(given) == len(wanted) and all(
            self._matches(part, arg, match) for part, arg in zip(wanted, given, strict=True)
        )

    def _matches(self, part: Any, arg: Arg, match: Match) -> bool:
        if isinstance(part, Call):
            maker = self.makers.get(arg.id) if isinstance(arg, Ref) else None
            if maker is None or not (row(maker.op).kind is Kind.VIEW or self.uses[maker.results[0]] == 1):
                return False
            return self._matches_node(part, maker, match)
        if isinstance(part, Number):
            arg = self._number(arg)
            if arg is None:
                return False
        if isinstance(part, AnyTensor) and not self._is_tensor(arg):
            return False
        if isinstance(part, Anything | AnyTensor | Number):
            return bool(exact(match.found.setdefault(part.name, arg)) == exact(arg))
        return exact(part) == exact(arg)

    def _is_tensor(self, arg: Arg) -> bool:
        return isinstance(arg, Ref) and isinstance(self.values.get(arg.id), torch.Tensor)

    def _number(self, arg: Arg) -> float | int | None:
        """A number that is known now: written in the Plan, or the one element of a constant."""
        if isinstance(arg, Ref):
            constant = self.constants.get(arg.id)
            known = constant is not None and constant.numel() == 1 and constant.is_floating_point()
            return constant.item() if constant is not None and known else None
        return arg if isinstance(arg, int | float) and not isinstance(arg, bool) else None

    def _made(self, answer: Call, node: Node) -> Iterator[Node]:
        """The operations of a replacement; the last one makes what the replaced one made."""
        args: list[Arg] = []
        for part in answer.args:
            if isinstance(part, Call):
                number = next(self.fresh)
                made = dataclasses.replace(node, results=(number,))
                yield from self._made(part, made)
                args.append(Ref(number))
            else:
                args.append(part)
        new = Node(answer.op, tuple(args), node.results, node.source)
        self.makers[new.results[0]] = new
        if new.results[0] not in self.values:
            self.values[new.results[0]] = self._meta(new)
        yield new

    def _meta(self, node: Node) -> Any:
        positional, keywords = bind(node, _META)
        args = [fetch(arg, self.values) for arg in positional]
        return row(node.op).call(*args, **{key: fetch(arg, self.values) for key, arg in keywords.items()})


@functools.cache
def _defaults(op: str) -> tuple[Arg, ...]:
    """The defaults of all arguments of an operation; None for required ones."""
    return padded(Node(op, (), ()))
