"""Running a function of tensors under PyTorch's own tracer, with sizes that stay symbols.

The author's function runs, autograd and optimizer included, and what reaches PyTorch's kernels is recorded.
The recording is then taken apart, or run again as a whole, through functionalisation and the core ATen
decompositions: no in-place operation, no alias and no Python remains. Nothing of a gradient or an update is
written by hand.
"""

import contextlib
import dataclasses
import operator
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.func import functionalize
from torch.fx import GraphModule, Node
from torch.fx import traceback as fx_traceback
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    GuardOnDataDependentSymNode,
    StatelessSymbolicContext,
)

from fedplan.errors import PlanError, TraceError
from fedplan.plan.tracing import source, ways_out, words
from fedplan.plan.tracing.complex.numbers import as_parts
from fedplan.plan.tracing.decompositions import (
    after_autograd,
    any_batch,
    before_autograd,
    known_shapes,
    rows_whole,
)
from fedplan.plan.tracing.draws import Draws, RandomInput, read_draws
from fedplan.plan.tracing.functions import own_functions
from fedplan.plan.tracing.notes import Notes
from fedplan.plan.tracing.placement import OnCpu
from fedplan.plan.tracing.plain.apart import Apart
from fedplan.plan.tracing.plain.replay import Replay
from fedplan.plan.tracing.python_random import without_draws
from fedplan.plan.tracing.repeatable import Trail
from fedplan.plan.tracing.sizes import Assumption, Sizes
from fedplan.plan.tracing.tables import Tables

Function = Callable[..., Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Recording:
    """What a function does to tensors, as a graph of functional ATen operations.

    Attributes:
        module: the graph; its inputs are the function's, the random ones, then the constants.
        random: the random inputs.
        constants: tensors that the function holds itself, on the CPU.
        origins: for each of them, the author's own, which may be elsewhere.
        written: those of them that it writes to, by `id`.
        differentiated: those of them to which a gradient goes, by `id`.
        shapes: for each input of the function, its extents; None where any size will do.
        assumptions: what does not hold for every number of rows: for these the graph must fail, or is wrong.
        trail: what the function did.
    """

    module: GraphModule
    random: tuple[RandomInput, ...]
    constants: tuple[torch.Tensor, ...]
    origins: tuple[torch.Tensor, ...]
    written: frozenset[int]
    differentiated: frozenset[int]
    shapes: tuple[tuple[int | None, ...], ...]
    assumptions: tuple[Assumption, ...]
    trail: Trail


def record(
    function: Function, examples: Sequence[torch.Tensor], free: Sequence[bool], must_stay_free: bool
) -> Recording:
    """Records a function of a flat list of tensors that returns a flat list of tensors.

    Args:
        function: called with as many tensors as there are examples.
        examples: their values are not looked at, but for tensors that the function itself holds.
        free: for each example, whether its first dimension may have any size.
        must_stay_free: a function that works for one size only is an error.

    Raises:
        TraceError: the function reads values into Python, fails, or works for one size where it must not.
    """
    module, first, notes, draws, placement = without_draws(lambda: _run(function, examples, free))
    _drop_profiling(module)
    drawn = read_draws(module, draws.seeds, first.extents, first.rows)
    held = _lift_constants(module)
    origins = tuple(placement.origin(tensor) for tensor in held)
    constants = [as_parts(tensor) if tensor.is_complex() else tensor for tensor in held]
    differentiated = frozenset(id(c) for c, t in zip(constants, held, strict=True) if _drop_gradient(t))
    drawn.answered(module, len(examples), first.mode)
    tracers = [first]
    functional = _taken_apart(module, first, held)
    if functional is None:
        replay = Replay(module, [tensor.is_complex() for tensor in held])
        second = _Tracer(
            [*examples, *drawn.stand_ins(), *constants],
            [*free, *(hint is not None for hint in drawn.hints), *(False for _ in constants)],
            replay.place,
        )
        with _tracing(second, replay):
            functional = second.run(functionalize(replay.run), decomposition_table=after_autograd())
        tracers.append(second)
    if must_stay_free:
        for tracer in tracers:
            tracer.check_free()
    return Recording(
        module=functional,
        random=drawn.inputs,
        constants=tuple(constants),
        origins=origins,
        written=_written(functional, constants),
        differentiated=differentiated,
        shapes=tracers[-1].shapes()[: len(examples)],
        assumptions=tuple(assumption for tracer in tracers for assumption in tracer.sizes.assumptions()),
        trail=notes.trail,
    )


def repeats(
    function: Function,
    examples: Sequence[torch.Tensor],
    free: Sequence[bool],
    trail: Trail,
    left: Iterable[Any],
) -> bool:
    """Whether another run of a function does what its last one did; see `repeatable`.

    Args:
        function: see `record`.
        examples: see `record`.
        free: see `record`.
        trail: what the last run did.
        left: what the last run may have left, of which the author's code keeps nothing in the end.
    """
    kept = trail.tables.found_in(left)
    stand_ins = [_stand_in(example, any_size) for example, any_size in zip(examples, free, strict=True)]
    try:
        with words.told_before():
            again = _trail_of(function, stand_ins, kept)
            if again == trail:
                return True
            if again != _trail_of(function, stand_ins, kept):
                return False
            return _run(function, examples, free, kept)[2].trail == trail  # known sizes may take other ways
    except TraceError:
        return False


def _trail_of(function: Function, examples: Sequence[torch.Tensor], kept: Tables) -> Trail:
    """What a function does to tensors of these very sizes; it may come upon tables of an earlier run."""
    notes, draws = Notes(), Draws()
    tracer = _Tracer(examples, [False] * len(examples), notes.place)
    with _authors(tracer, notes, OnCpu(), kept), tracer.mode, enable_python_dispatcher():
        notes.taken_of(draws.around(function))(*tracer.fakes)
    return notes.trail


def _run(
    function: Function, examples: Sequence[torch.Tensor], free: Sequence[bool], kept: Tables | None = None
) -> "tuple[GraphModule, _Tracer, Notes, Draws, OnCpu]":
    """What a run of the function does, as PyTorch's tracer records it."""
    notes, draws, placement = Notes(), Draws(), OnCpu()
    tracer = _Tracer(examples, free, notes.place)
    with _authors(tracer, notes, placement, kept):
        return tracer.run(notes.taken_of(draws.around(function))), tracer, notes, draws, placement


@contextlib.contextmanager
def _authors(tracer: "_Tracer", notes: Notes, placement: OnCpu, kept: Tables | None = None) -> Iterator[None]:
    """What holds while the author's function runs."""
    notes.trail = Trail(tracer.mode, kept)
    with _tracing(tracer, notes), before_autograd(), any_batch(), own_functions(), placement:
        yield


def _taken_apart(module: GraphModule, tracer: "_Tracer", held: Sequence[torch.Tensor]) -> GraphModule | None:
    """A recording in plain operations, or None where it has to be run again as a whole."""
    apart = Apart(module, [tracer.mode.from_tensor(tensor, static_shapes=True) for tensor in held])
    tracer.sizes.place = apart.place
    with _tracing(tracer, apart):
        return apart.plain(tracer.mode)


def retrace(
    function: Function,
    examples: Sequence[torch.Tensor],
    free: Sequence[bool],
    decompositions: Mapping[Any, Function],
) -> GraphModule:
    """Records a function of operators, such as a Plan that runs, as a graph of functional operators.

    Args:
        function: called with as many tensors as there are examples.
        examples: shapes and dtypes.
        free: for each example, whether its first dimension may have any size.
        decompositions: what to put in the place of operators that are not wanted.

    Raises:
        TraceError: the function fails.
    """
    tracer = _Tracer(examples, free, source.here)
    with _tracing(tracer):
        return tracer.run(functionalize(function), decomposition_table=decompositions)


class _Tracer:
    """One pass: fake inputs, the environment of their sizes, and what it learnt about them."""

    def __init__(
        self, examples: Sequence[torch.Tensor], free: Sequence[bool], place: Callable[[], str | None]
    ) -> None:
        self.sizes = Sizes(place)
        self.mode = FakeTensorMode(shape_env=self.sizes, allow_non_fake_inputs=True)
        self.free = tuple(free)
        self.fakes = [
            self.mode.from_tensor(_stand_in(example, any_size), symbolic_context=_any_rows(example))
            if any_size
            else self.mode.from_tensor(_stand_in(example, any_size), static_shapes=True)
            for example, any_size in zip(examples, free, strict=True)
        ]

    def run(self, function: Function, **options: Any) -> GraphModule:
        return make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True, **options)(*self.fakes)

    def shapes(self) -> tuple[tuple[int | None, ...], ...]:
        known = (self.extents(fake) for fake in self.fakes)
        return tuple(tuple(e if isinstance(e, int) else None for e in extents) for extents in known)

    def extents(self, tensor: torch.Tensor) -> list[Any]:
        """A tensor's extents: numbers, or expressions of symbols."""
        sizes: Sequence[Any] = tensor.shape
        found = [s if isinstance(s, int) else self.sizes.simplify(s.node.expr) for s in sizes]
        return [e if isinstance(e, int) or not e.is_number else int(e) for e in found]

    def rows(self, symbol: Any) -> int | None:
        """How many rows of the examples a symbol stands for; None if it is not their number."""
        for fake, any_size in zip(self.fakes, self.free, strict=True):
            if any_size and self.extents(fake)[0] == symbol:
                size: Any = fake.shape[0]
                return int(size.node.hint)
        return None

    def check_free(self) -> None:
        """Refuses what works for one number of rows only."""
        for index, (shape, fake) in enumerate(zip(self.shapes(), self.fakes, strict=True)):
            if self.free[index] and shape[0] is not None:
                size: Any = fake.shape[0]
                place = self.sizes.fixed_at(size.node._expr)
                raise TraceError(
                    f"the function works for {shape[0]} rows of input {index} only: that size is fixed"
                    f"{ways_out.at(place) or ' somewhere in it'}. {ways_out.of_fixed_rows(place)}"
                )


def _stand_in(example: torch.Tensor, any_size: bool) -> torch.Tensor:
    """A tensor like the example, with memory of its own: the same example may be given twice.

    One row becomes two, since PyTorch takes a size of one for a constant.
    """
    rows = (2, *example.shape[1:]) if any_size and example.shape[0] == 1 else example.shape
    return torch.empty(rows, dtype=example.dtype)


def _any_rows(example: torch.Tensor) -> StatelessSymbolicContext[Any, Any]:
    kinds = [DimDynamic.STATIC] * example.dim()
    kinds[0] = DimDynamic.DYNAMIC
    return StatelessSymbolicContext(dynamic_sizes=kinds)


_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def _tracing(tracer: _Tracer, lines: Notes | Apart | Replay | None = None) -> Iterator[None]:
    """What holds while a function is recorded. PyTorch's tracer is one for the whole process."""
    place_of = source.of_exception if lines is None else lines.place_of
    numbers = words.numbers_of(tracer.fakes)
    with (
        _ONE_AT_A_TIME,
        words.warnings_at_authors_lines(numbers),
        words.errors_told_once(),
        words.formatted(),
        _understood(place_of, numbers),
        _portable_kernels(),
        _nothing_compiled(),
        known_shapes(),
        rows_whole(),
        fx_traceback.preserve_node_meta(),
    ):
        yield


@contextlib.contextmanager
def _portable_kernels() -> Iterator[None]:
    """Operators that exist everywhere, not the ones that this machine would choose for speed."""
    onednn: Any = torch.backends.mkldnn
    # not onednn.flags(), which also sets TF32 and warns where that does not exist
    before = onednn.set_flags(_enabled=False, _fp32_precision=None)[0]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # nested tensors, where a mask leaves steps out
    try:
        with torch.enable_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        onednn.set_flags(_enabled=before, _fp32_precision=None)
        torch.backends.mha.set_fastpath_enabled(fast)


def _nothing_compiled() -> contextlib.AbstractContextManager[None]:
    """What `torch.compile` has wrapped runs as the Python that it wraps."""
    dynamo: Any = sys.modules.get("torch._dynamo")  # nothing is compiled without it
    return contextlib.nullcontext() if dynamo is None else dynamo.config.patch(error_on_nested_fx_trace=False)


@contextlib.contextmanager
def _understood(
    place_of: Callable[[BaseException], str | None], numbers: Mapping[str, str]
) -> Iterator[None]:
    """PyTorch's tracing failures, told in the author's terms."""
    try:
        yield
    except PlanError:
        raise
    except (GuardOnDataDependentSymNode, DataDependentOutputException) as error:
        place = place_of(error)
        raise TraceError(ways_out.of_read(place)) from error
    except Exception as error:
        place = place_of(error)
        known = ways_out.of_layer(place)
        message = words.with_numbers(str(error), numbers)
        why = f"PyTorch's tracer cannot follow it. {known}" if known else ways_out.of_error(error, message)
        raise TraceError(
            f"the function failed while it was traced{ways_out.at(place)}: {why or message}"
        ) from error


def _drop_profiling(module: GraphModule) -> None:
    for node in reversed(list(module.graph.nodes)):
        if node.op == "call_function" and getattr(node.target, "namespace", "") == "profiler":
            module.graph.erase_node(node)


def _lift_constants(module: GraphModule) -> list[torch.Tensor]:
    """Makes the tensors that the function holds inputs, so that writing to them in place is seen as such.

    A tensor that is read in several places is one input.
    """
    constants: list[torch.Tensor] = []
    lifted: dict[int, Node] = {}
    body = next(node for node in module.graph.nodes if node.op != "placeholder")
    for node in [node for node in module.graph.nodes if node.op == "get_attr"]:
        tensor = operator.attrgetter(str(node.target))(module)
        if id(tensor) not in lifted:
            constants.append(tensor)
            with module.graph.inserting_before(body):
                lifted[id(tensor)] = module.graph.placeholder(f"constant{len(constants)}")
        node.replace_all_uses_with(lifted[id(tensor)])
        if node is body:
            body = node.next
        module.graph.erase_node(node)
    return constants


def _drop_gradient(tensor: torch.Tensor) -> bool:
    """Takes a gradient without values from a tensor of the author's; whether it had one."""
    had = tensor.is_leaf and isinstance(tensor.grad, FakeTensor)
    if had:
        tensor.grad = None
    return had


def _written(module: GraphModule, constants: Sequence[torch.Tensor]) -> frozenset[int]:
    """The constants that a functional graph writes back at its end, by `id`."""
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    own = dict(zip(placeholders[len(placeholders) - len(constants) :], constants, strict=True))
    writes = (node for node in module.graph.nodes if node.target is torch.ops.aten.copy_.default)
    return frozenset(id(own[node.args[0]]) for node in writes if node.args[0] in own)
