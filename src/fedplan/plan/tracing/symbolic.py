"""Running a function of tensors under PyTorch's own tracer, with sizes that stay symbols.

Two passes. The first runs the author's function, autograd and optimizer included, and records what reaches
PyTorch's kernels. The second runs that recording through functionalisation and the core ATen
decompositions: no in-place operation, no alias and no Python remains. Nothing of a gradient or an update is
written by hand.
"""

import contextlib
import dataclasses
import operator
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.func import functionalize
from torch.fx import GraphModule, Interpreter, Node
from torch.fx import traceback as fx_traceback
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    GuardOnDataDependentSymNode,
    StatelessSymbolicContext,
)
from torch.overrides import TorchFunctionMode

from fedplan.errors import PlanError, TraceError
from fedplan.plan.tracing import source
from fedplan.plan.tracing.complex import rules
from fedplan.plan.tracing.complex.numbers import Complex, as_parts
from fedplan.plan.tracing.decompositions import (
    FUNCTIONS,
    after_autograd,
    before_autograd,
    known_shapes,
    rows_whole,
)
from fedplan.plan.tracing.notes import Notes
from fedplan.plan.tracing.sizes import Assumption, Sizes

Function = Callable[..., Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Recording:
    """What a function does to tensors, as a graph of functional ATen operations.

    Attributes:
        module: the graph; its inputs are the function's, then the constants.
        constants: tensors that the function holds itself.
        shapes: for each input of the function, its extents; None where any size will do.
        assumptions: what does not hold for every number of rows: for these the graph must fail, or is wrong.
    """

    module: GraphModule
    constants: tuple[torch.Tensor, ...]
    shapes: tuple[tuple[int | None, ...], ...]
    assumptions: tuple[Assumption, ...]


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
    notes = Notes()
    first = _Tracer(examples, free, notes.place)
    with _tracing(notes), before_autograd(), _Functions():
        module = first.run(notes.taken_of(function))
    _drop_profiling(module)
    constants = _lift_constants(module)
    replay = _Replay(module, [constant.is_complex() for constant in constants])
    constants = [as_parts(constant) if constant.is_complex() else constant for constant in constants]
    second = _Tracer([*examples, *constants], [*free, *(False for _ in constants)], replay.place)
    with _tracing(replay):
        module = second.run(functionalize(replay.run), decomposition_table=after_autograd())
    if must_stay_free:
        for tracer in (first, second):
            tracer.check_free()
    assumptions = (*first.sizes.assumptions(), *second.sizes.assumptions())
    return Recording(module, tuple(constants), second.shapes()[: len(examples)], assumptions)


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
    with _tracing():
        return tracer.run(functionalize(function), decomposition_table=decompositions)


class _Functions(TorchFunctionMode):
    """Functions of PyTorch as a Plan has them. While it looks on, layers take no kernels for inference."""

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return FUNCTIONS.get(func, func)(*args, **(kwargs or {}))


class _Replay(Interpreter):
    """Runs a recording, and knows where in the author's code each of its operations comes from.

    Complex numbers become real ones on the way.
    """

    def __init__(self, module: GraphModule, complex_constants: Sequence[bool]) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self._node: Node | None = None
        names = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
        constants = names[len(names) - len(complex_constants) :]
        self._complex = {n for n, is_one in zip(constants, complex_constants, strict=True) if is_one}

    def run_node(self, n: Node) -> Any:
        """Runs one operation."""
        self._node = n
        return super().run_node(n)

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        """An input, or a constant."""
        value = super().placeholder(target, args, kwargs)
        return Complex(value) if target in self._complex else value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """An operation."""
        if rules.concerns(target, args, kwargs):
            return rules.call(target, args, kwargs, self.place())
        return super().call_function(target, args, kwargs)

    def place(self) -> str | None:
        """Where in the author's code it is."""
        return self._node.stack_trace if self._node is not None else None

    def place_of(self, error: BaseException) -> str | None:
        """Where in the author's code an error came from."""
        return self.place() or source.of_exception(error)


class _Tracer:
    """One pass: fake inputs, the environment of their sizes, and what it learnt about them."""

    def __init__(
        self, examples: Sequence[torch.Tensor], free: Sequence[bool], place: Callable[[], str | None]
    ) -> None:
        self.sizes = Sizes(place)
        mode = FakeTensorMode(shape_env=self.sizes, allow_non_fake_inputs=True)
        self.free = tuple(free)
        self.fakes = [
            mode.from_tensor(_stand_in(example, any_size), symbolic_context=_context(example, any_size))
            for example, any_size in zip(examples, free, strict=True)
        ]

    def run(self, function: Function, **options: Any) -> GraphModule:
        return make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True, **options)(*self.fakes)

    def shapes(self) -> tuple[tuple[int | None, ...], ...]:
        return tuple(tuple(map(self._extent, fake.shape)) for fake in self.fakes)

    def _extent(self, size: Any) -> int | None:
        if isinstance(size, int):
            return size
        known = self.sizes.simplify(size.node.expr)
        return int(known) if known.is_number else None

    def check_free(self) -> None:
        """Refuses what works for one number of rows only."""
        for index, shape in enumerate(self.shapes()):
            if self.free[index] and shape[0] is not None:
                raise TraceError(
                    f"the function works for {shape[0]} rows of input {index} only: something in it fixes "
                    "that size. Read sizes from the tensors (`x.shape[0]`), or accept it with pin_batch=True."
                )


def _stand_in(example: torch.Tensor, any_size: bool) -> torch.Tensor:
    """A tensor like the example, with memory of its own: the same example may be given twice.

    One row becomes two, since PyTorch takes a size of one for a constant.
    """
    rows = (2, *example.shape[1:]) if any_size and example.shape[0] == 1 else example.shape
    return torch.empty(rows, dtype=example.dtype)


def _context(example: torch.Tensor, any_size: bool) -> StatelessSymbolicContext[Any, Any]:
    kinds = [DimDynamic.STATIC] * example.dim()
    if any_size:
        kinds[0] = DimDynamic.DYNAMIC
    return StatelessSymbolicContext(dynamic_sizes=kinds)


_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def _tracing(lines: Notes | _Replay | None = None) -> Iterator[None]:
    """What holds while a function is recorded. PyTorch's tracer is one for the whole process."""
    place_of = source.of_exception if lines is None else lines.place_of
    with (
        _ONE_AT_A_TIME,
        _understood(place_of),
        _portable_kernels(),
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
    try:
        with torch.enable_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        onednn.set_flags(_enabled=before, _fp32_precision=None)


@contextlib.contextmanager
def _understood(place_of: Callable[[BaseException], str | None]) -> Iterator[None]:
    """PyTorch's tracing failures, told in the author's terms."""
    try:
        yield
    except PlanError:
        raise
    except (GuardOnDataDependentSymNode, DataDependentOutputException) as error:
        raise TraceError(
            f"a tensor's value is read into Python{_at(place_of(error))}, by `.item()`, `float(t)`, "
            "`if t > 0` or the like. A Plan has no Python: keep the value a tensor, and use `torch.where` "
            "in place of `if`."
        ) from error
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError, IndexError) as error:
        raise TraceError(f"the function failed while it was traced{_at(place_of(error))}: {error}") from error


def _at(place: str | None) -> str:
    return f" at {place}" if place else ""


def _drop_profiling(module: GraphModule) -> None:
    for node in reversed(list(module.graph.nodes)):
        if node.op == "call_function" and getattr(node.target, "namespace", "") == "profiler":
            module.graph.erase_node(node)
    module.recompile()


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
    module.recompile()
    return constants
