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
from traceback import FrameSummary
from typing import Any

import torch
from torch._decomp import core_aten_decompositions
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.func import functionalize
from torch.fx import GraphModule, Interpreter, Node
from torch.fx import traceback as fx_traceback
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    GuardOnDataDependentSymNode,
    ShapeEnv,
    StatelessSymbolicContext,
)
from torch.overrides import TorchFunctionMode

from fedplan.errors import PlanError, TraceError
from fedplan.plan import source
from fedplan.plan.ops import OPS, overload
from fedplan.plan.recurrence.interception import RecurrentLayers
from fedplan.plan.source import of_exception, of_frame

Function = Callable[..., Any]

_KERNEL_CHOICE = "_subclasses/fake_impls.py"
"""Where PyTorch asks for sizes only to guess which kernel this machine would take."""


@dataclasses.dataclass(frozen=True, slots=True)
class Recording:
    """What a function does to tensors, as a graph of functional ATen operations.

    Attributes:
        module: the graph; its inputs are the function's, then the constants.
        constants: tensors that the function holds itself.
        shapes: for each input of the function, its extents; None where any size will do.
    """

    module: GraphModule
    constants: tuple[torch.Tensor, ...]
    shapes: tuple[tuple[int | None, ...], ...]


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
        TraceError: the function reads values into Python, or takes another path for other sizes.
    """
    first = _Tracer(examples, free)
    with _tracing(), RecurrentLayers(), _LineNotes():
        module = first.run(function)
    _drop_profiling(module)
    constants = _lift_constants(module)
    second = _Tracer([*examples, *constants], [*free, *(False for _ in constants)])
    with _tracing():
        replay = Interpreter(module).run
        module = second.run(functionalize(replay), decomposition_table=_decompositions())
    for tracer in (first, second):
        tracer.check_sizes(must_stay_free)
    return Recording(module, tuple(constants), second.shapes()[: len(examples)])


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
    tracer = _Tracer(examples, free)
    with _tracing():
        return tracer.run(functionalize(function), decomposition_table=decompositions)


class _LineNotes(TorchFunctionMode):
    """Notes the author's line at every call of a PyTorch function; the tracer copies it to its nodes."""

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        fx_traceback.set_stack_trace([source.here()])
        return func(*args, **(kwargs or {}))


class _Tracer:
    """One pass: fake inputs, the environment of their sizes, and what it learnt about them."""

    def __init__(self, examples: Sequence[torch.Tensor], free: Sequence[bool]) -> None:
        self.sizes = ShapeEnv(duck_shape=False)
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

    def check_sizes(self, must_stay_free: bool) -> None:
        """Refuses what holds for some sizes only: the Plan would be wrong for the others, silently."""
        for index, shape in enumerate(self.shapes()):
            if must_stay_free and self.free[index] and shape[0] is not None:
                raise TraceError(
                    f"the function works for {shape[0]} rows of input {index} only: something in it fixes "
                    "that size. Read sizes from the tensors (`x.shape[0]`), or accept it with pin_batch=True."
                )
        for guard in self.sizes.guards:
            frame = guard.sloc.framework_loc
            if isinstance(frame, FrameSummary) and frame.filename.endswith(_KERNEL_CHOICE):
                continue
            expression = self.sizes.simplify(guard.expr)
            symbols = list(expression.free_symbols)
            holds = (expression.subs(dict.fromkeys(symbols, size)) for size in (2, 3, 7, 16, 33, 100, 1000))
            if not all(holds):
                raise TraceError(
                    "the function takes another path for other batch sizes: it asks whether "
                    f"{guard.expr}{of_frame(frame)}. A Plan has one path: remove the condition, or pin "
                    "the batch size with pin_batch=True."
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
def _tracing() -> Iterator[None]:
    """What holds while a function is recorded. PyTorch's tracer is one for the whole process."""
    with _ONE_AT_A_TIME, _understood(), _portable_kernels(), fx_traceback.preserve_node_meta():
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
def _understood() -> Iterator[None]:
    """PyTorch's tracing failures, told in the author's terms."""
    try:
        yield
    except PlanError:
        raise
    except (GuardOnDataDependentSymNode, DataDependentOutputException) as error:
        raise TraceError(
            f"a tensor's value is read into Python{of_exception(error)}, by `.item()`, `float(t)`, "
            "`if t > 0` or the like. A Plan has no Python: keep the value a tensor, and use `torch.where` "
            "in place of `if`."
        ) from error
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError, IndexError) as error:
        raise TraceError(f"the function failed while it was traced{of_exception(error)}: {error}") from error


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


def _decompositions() -> Mapping[Any, Function]:
    """Core ATen's decompositions, but for what the op table holds undecomposed."""
    kept = {overload(name) for name, op in OPS.items() if name.startswith("aten.") and not op.composite}
    kept -= {overload(name) for name in _ALWAYS_DECOMPOSED}
    rules: Mapping[Any, Function] = core_aten_decompositions()
    return {op: rules[op] for op in rules if op not in kept}


# Rows that exist for Plans made elsewhere and that Core ATen says with other rows.
_ALWAYS_DECOMPOSED = ("aten.transpose.int", "aten.split.Tensor", "aten.stack.default", "aten.unbind.int")
