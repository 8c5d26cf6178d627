"""The random numbers that a function draws while it is recorded, as further inputs of it."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Node
from torch.utils._python_dispatch import TorchDispatchMode

from fedplan.errors import TraceError, UnsupportedOpError
from fedplan.plan.tracing import source, words
from fedplan.plan.tracing.chance import RULES, WITHOUT_DRAW, draws

Function = Callable[..., Any]


@dataclasses.dataclass(frozen=True, slots=True)
class RandomInput:
    """One random input of a function.

    Attributes:
        distribution: what its numbers are drawn from.
        dtype: float32 or float64.
        shape: its extents; None, which only the first can be, is the batch's rows.
        rows: how many of the operator's rows belong to one row of the batch; attention folds its heads into
            them.
        dim: the dimension of the operator's result that counts rows.
    """

    distribution: str
    dtype: torch.dtype
    shape: tuple[int | None, ...]
    rows: int = 1
    dim: int = 0

    def as_drawn(self, numbers: torch.Tensor) -> torch.Tensor:
        """The numbers, (batch, [rows,] …), in the shape of the operator's result, (…, batch · rows, …)."""
        if self.rows > 1:
            numbers = numbers.flatten(0, 1)
        return numbers.movedim(0, self.dim) if self.dim else numbers

    def like(self, made: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
        """A stand-in for the numbers of an operator that made this tensor."""
        shape = [made.shape[self.dim] // self.rows if extent is None else extent for extent in self.shape]
        with mode:
            return torch.empty(shape, dtype=self.dtype)


class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each draw while a function is recorded, by the seed that PyTorch's generator has at the time.

    After each draw the generator gets another seed, which is a function of the one before. So a function that
    sets an older state back (`torch.utils.checkpoint` does, to compute a layer again with the same mask) has
    the older draws again.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seeds: list[int] = []
        self._given: set[int] = set()

    def around(self, function: Function) -> Function:
        """The function under this mode, with a generator state of its own."""

        def run(*args: Any) -> Any:
            with torch.random.fork_rng(devices=[]):
                self._renew()
                with self:
                    return function(*args)

        return run

    def _renew(self) -> None:
        seed = torch.default_generator.initial_seed()
        following = hashlib.blake2b(str(seed).encode(), digest_size=7).digest()
        torch.default_generator.manual_seed(int.from_bytes(following, "little"))
        self._given.add(torch.default_generator.initial_seed())

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if draws(op, args):
            self._check(op, args, options)
            self.seeds.append(torch.default_generator.initial_seed())
            self._renew()
        return op(*args, **options)

    def _check(self, op: OpOverload, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        where = source.here()
        if options.get("generator") is not None or any(isinstance(a, torch.Generator) for a in args):
            raise TraceError(
                f"a random operation has a generator of its own{_at(where)}. In a Plan numbers come from the "
                "worker's seed: leave `generator` out"
            )
        if op not in RULES:
            raise UnsupportedOpError(str(op), source=where, instead=_OTHERWISE)
        if torch.default_generator.initial_seed() not in self._given:
            raise TraceError(
                f"the function sets the state of PyTorch's random generator{_at(where)}, so each step would "
                "have the same numbers. In a Plan they come from the worker's seed and differ from step to "
                "step: remove `torch.manual_seed`, or pass fixed numbers in as an input"
            )


_OTHERWISE = (
    "It draws random numbers in a way that a Plan has none for. Compute them from `torch.rand` or "
    "`torch.randn`, or pass them in as an input."
)


def _at(where: str | None) -> str:
    return f" (at {where})" if where else ""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A random operator as a function of numbers that were drawn elsewhere, and of its arguments."""

    op: OpOverload
    wanted: RandomInput

    def __call__(self, numbers: torch.Tensor, *args: Any, **options: Any) -> Any:
        """What the operator makes of the numbers."""
        if self.wanted.shape[:1] == (None,):  # ties the input's rows to the batch's
            same = numbers.shape[0] == _size(self.op, args)[self.wanted.dim] // self.wanted.rows
            torch._check(same)  # type: ignore[no-untyped-call]
        return RULES[self.op].answer(self.wanted.as_drawn(numbers), *args, **options)


def _size(op: OpOverload, args: Sequence[Any]) -> Sequence[Any]:
    """The extents of a random operator's result."""
    names = [argument.name for argument in op._schema.arguments]
    if "size" in names:
        found: Sequence[Any] = args[names.index("size")]
        return found
    if op is torch.ops.aten.randperm.default:
        return (args[0],)
    shapes = (a.shape for a in args if isinstance(a, torch.Tensor))
    common: Sequence[Any] = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    return common


@dataclasses.dataclass(frozen=True, slots=True)
class Drawn:
    """The draws of a recording.

    Attributes:
        inputs: the random inputs, each once.
        numbers: by the name of a node that draws, which input it reads.
        hints: for each input, the batch's rows in the recording; None where it has no such extent.
    """

    inputs: tuple[RandomInput, ...]
    numbers: dict[str, int]
    hints: tuple[int | None, ...]

    def answered(self, module: GraphModule, inputs: int, mode: FakeTensorMode) -> None:
        """Has a recording compute what it draws from further inputs, after those that it has.

        Args:
            module: the recording. It is changed.
            inputs: how many inputs it has, before its constants.
            mode: the one in which it was recorded.
        """
        nodes = list(module.graph.nodes)
        first: dict[int, Node] = {}
        for node in nodes:
            if node.name in self.numbers:
                first.setdefault(self.numbers[node.name], node)
        with module.graph.inserting_before(nodes[inputs]):
            given = [module.graph.placeholder(f"random{number}") for number in range(len(self.inputs))]
        for number, (wanted, placeholder) in enumerate(zip(self.inputs, given, strict=True)):
            placeholder.meta["val"] = wanted.like(_made(first[number]), mode)
        for node in nodes:
            if node.name in self.numbers:
                number = self.numbers[node.name]
                node.args = (given[number], *node.args)
                node.target = Answer(node.target, self.inputs[number])
            elif node.target in WITHOUT_DRAW:
                node.target = WITHOUT_DRAW[node.target]

    def stand_ins(self) -> list[torch.Tensor]:
        """Tensors of the inputs' shapes in the recording."""
        pairs = zip(self.inputs, self.hints, strict=True)
        return [
            torch.empty([hint or 1 if e is None else e for e in i.shape], dtype=i.dtype) for i, hint in pairs
        ]


Extents = Callable[[Any], list[Any]]
"""The extents of a tensor as numbers, or as expressions of symbols."""

Rows = Callable[[Any], int | None]
"""How large a symbol is in the recording, if it is the number of rows of an input."""


def read_draws(module: GraphModule, seeds: Sequence[int], extents: Extents, rows: Rows) -> Drawn:
    """Finds the nodes that draw.

    Args:
        module: what was recorded.
        seeds: what `Draws` noted, one for each of these nodes, in order.
        extents: of a recorded tensor.
        rows: of a symbol.

    Raises:
        TraceError: how many numbers are drawn is no multiple of the batch size.
    """
    nodes = [n for n in module.graph.nodes if n.op == "call_function" and draws(n.target, n.args)]
    inputs: list[RandomInput] = []
    hints: list[int | None] = []
    numbers: dict[str, int] = {}
    known: dict[tuple[int, RandomInput], int] = {}
    for node, seed in zip(nodes, seeds, strict=True):
        wanted, hint = _input(node, extents, rows)
        if (seed, wanted) not in known:
            known[seed, wanted] = len(inputs)
            inputs.append(wanted)
            hints.append(hint)
        numbers[node.name] = known[seed, wanted]
    return Drawn(tuple(inputs), numbers, tuple(hints))


def _input(node: Node, extents: Extents, rows: Rows) -> tuple[RandomInput, int | None]:
    rule = RULES[node.target]  # type: ignore[index]  # `Draws` has refused all others
    value = _made(node)
    dtype = rule.dtype or (value.dtype if value.dtype == torch.float64 else torch.float32)
    shape = extents(value)
    varying = [dim for dim, extent in enumerate(shape) if not isinstance(extent, int)]
    if not varying:
        return RandomInput(rule.distribution, dtype, tuple(shape)), None
    dim = varying[0]
    symbols = list(set().union(*(shape[d].free_symbols for d in varying)))
    hint = rows(symbols[0])
    share = shape[dim] / symbols[0]
    if len(varying) > 1 or len(symbols) > 1 or hint is None or not share.is_Integer:
        drawn = words.with_rows(str(list(value.shape)))
        raise TraceError(
            f"random numbers of the shape {drawn} are drawn{_at(node.stack_trace)}: how many depends on the "
            "batch size in a way that a worker cannot fill. Draw as many for each sample, or pin the batch "
            "size with pin_batch=True."
        )
    count = int(share)
    rest = (*shape[:dim], *shape[dim + 1 :])
    held = (None, *([count] if count > 1 else []), *rest)
    return RandomInput(rule.distribution, dtype, held, count, dim), hint


def _made(node: Node) -> torch.Tensor:
    """What an operator that draws returns first."""
    made = node.meta["val"]
    found: torch.Tensor = made[0] if isinstance(made, tuple | list) else made
    return found
