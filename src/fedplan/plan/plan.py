"""Plan: a closed list of tensor operations with described inputs and outputs."""

import dataclasses
import functools
from collections.abc import Hashable, Sequence
from typing import Any, Self

import torch

from fedplan.errors import PlanExecutionError, PlanInputError, PlanLimitError
from fedplan.plan.dp_sgd import DpSgd
from fedplan.plan.ir.graph import Graph
from fedplan.plan.message import codec
from fedplan.plan.ops import DTYPES, dtype_name
from fedplan.plan.random import DISTRIBUTIONS, RandomStream
from fedplan.plan.run.check import DEFAULT_LIMITS, Cost, Limits, ShapeAndDType, first_run, measure
from fedplan.plan.run.compiler import Executor, Repetition, compile_graph
from fedplan.plan.run.recent import Recent
from fedplan.plan.signature import PlanInput, PlanOutput, check_count, rows_of
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec
from fedplan.plan.variants.variants import Variants

_EXECUTORS = (16, 256)
"""Sets of shapes for which a Plan keeps an executor. The least number is for whole batches, the last one, and
some to spare; the most, of few operations, for each size that the last batches of a simulation's clients may
have."""

_KEPT_NODES = 50_000
"""Operations in all executors that a Plan keeps beyond the least number of them."""


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Stores a list of operations and runs it; what a worker is given in place of code.

    Attributes:
        name: name of the Plan.
        id: its id in messages.
        inputs: what goes in, in order.
        outputs: what comes out, in order.
        graph: the operations; `str(plan)` shows them.
        limits: what a run may use; checked before the first run with new shapes.
        variants: what other clients run in its place; `with_variants` makes them.
        example: the data that it was traced with, one tensor for each input that `PlanInput.is_data`; its
            variants are tried with it. It is in memory only, and in no message.
        dp: what its author says of the DP-SGD in it; None for a Plan without. Nothing proves that its
            operations do so.
    """

    name: str
    inputs: tuple[PlanInput, ...]
    outputs: tuple[PlanOutput, ...]
    graph: Graph
    id: int | str = 0
    limits: Limits = DEFAULT_LIMITS
    variants: Variants = dataclasses.field(default_factory=Variants)
    example: tuple[torch.Tensor, ...] | None = dataclasses.field(default=None, repr=False)
    dp: DpSgd | None = None

    @classmethod
    def parse(cls, data: bytes, limits: Limits = DEFAULT_LIMITS) -> Self:
        """Reads a serialized Plan, made by fedplan or by PySyft: its op list, and the variants as they are.

        Args:
            data: a ``syft_proto.execution.v1.Plan``.
            limits: what a run of it may use; a Plan with more operations is not even read.

        Raises:
            WireError: `data` is not a Plan message.
            PlanLimitError: it has more operations than `limits` allow.
            UnsupportedOpError: the list holds an operation outside the op table.
            PlanFormatError: the list is not well formed.
        """
        parts = codec.decode(data, limits.max_operations)
        graph, variants = parts.graph, parts.variants
        return cls(parts.name, parts.inputs, parts.outputs, graph, parts.id, limits, variants, dp=parts.dp)

    def serialize(self) -> bytes:
        """The Plan as a ``syft_proto.execution.v1.Plan`` message, with all its variants."""
        parts = codec.Parts(self.name, self.id, self.inputs, self.outputs, self.graph, self.variants, self.dp)
        return codec.encode(parts)

    def __str__(self) -> str:
        inputs = zip(self.graph.inputs, self.inputs, strict=True)
        lines = [f"%{number} = {item}" for number, item in inputs]
        said = [] if self.dp is None else [f"{self.dp} (its author says)"]
        head = f"Plan '{self.name}', {len(self.graph.nodes)} operations"
        return "\n".join([head, *said, *lines, str(self.graph)])

    @property
    def state(self) -> tuple[torch.Tensor, ...]:
        """The tensors that belong to the Plan itself."""
        return tuple(tensor for _, tensor in self.graph.constants)

    @property
    def input_specs(self) -> list[PlanInputSpec] | None:
        """What each input stands for; None when the Plan does not say it of all of them."""
        specs = [item.spec for item in self.inputs if item.spec is not None]
        return specs if len(specs) == len(self.inputs) else None

    @property
    def output_specs(self) -> list[PlanOutputSpec] | None:
        """What each output stands for; None when the Plan does not say it of all of them."""
        specs = [item.spec for item in self.outputs if item.spec is not None]
        return specs if len(specs) == len(self.outputs) else None

    async def execute(self, worker: object, *data: Any) -> list[torch.Tensor]:
        """Runs the Plan: the reference's form of calling it.

        Args:
            worker: the `Syft` client; kept for the reference's sake, not used.
            data: see `__call__`.

        Raises:
            PlanInputError: the arguments do not fit the inputs.
            PlanLimitError: the run would use more than `limits`.
            PlanExecutionError: an operation failed.
        """
        del worker
        return self(*data)

    def __call__(
        self, *data: Any, random: RandomStream | None = None, cycle: int = 0, step: int = 0
    ) -> list[torch.Tensor]:
        """Runs the Plan.

        Args:
            data: one argument an input, in order: torch tensors, NumPy arrays, or numbers for inputs of one
                element. They are not changed.
            random: draws the Plan's random inputs; `data` then leaves them out.
            cycle: number of the cycle for which they are drawn; 1 is the model's first one on its grid.
            step: for which step of it, counted from 0.

        Returns:
            The output tensors, in order.

        Raises:
            PlanInputError: the arguments do not fit the inputs.
            PlanLimitError: the run would use more than `limits`.
            PlanExecutionError: an operation failed.
        """
        if random is not None:
            if not isinstance(random, RandomStream):
                raise PlanInputError(
                    f"`random` is a {type(random).__name__}, and must be a stream: random=RandomStream(7)"
                )
            others = [item for item in self.inputs if not item.is_random]
            check_count(self.name, others, len(data))
            drawn = iter(self.draw(random, rows_of(others, data), cycle=cycle, step=step))
            given = iter(data)
            data = tuple(next(drawn if item.is_random else given) for item in self.inputs)
        tensors = self.arguments(data)
        run = self.executor(tensors)
        return self.first_run(tensors)[0] if run is None else run(tensors)

    def arguments(self, data: Sequence[Any]) -> list[torch.Tensor]:
        """The arguments of a run as tensors that fit the inputs, contiguous and without gradients.

        Raises:
            PlanInputError: the arguments do not fit the inputs.
        """
        lacks_random_ones = len(data) == sum(not item.is_random for item in self.inputs)
        advice = "; `random=RandomStream()` (`--seed`) draws the random ones" if lacks_random_ones else ""
        check_count(self.name, self.inputs, len(data), advice)
        return [item.tensor(value) for value, item in zip(data, self.inputs, strict=True)]

    def draw(self, stream: RandomStream, rows: int, *, cycle: int = 0, step: int = 0) -> list[torch.Tensor]:
        """The numbers for the Plan's random inputs, in their order; see docs/randomness.md.

        Args:
            stream: where they come from.
            rows: samples in the batch.
            cycle: number of the cycle.
            step: number of the step in the cycle.

        Raises:
            PlanInputError: the Plan asks for a distribution that does not exist.
        """
        made = []
        for fill, item, number, dtype in self._draws:
            shape, _ = item.with_rows(rows)
            made.append(fill(stream, shape, cycle=cycle, step=step, number=number, dtype=dtype))
        return made

    @functools.cached_property
    def _draws(self) -> list[tuple[Any, PlanInput, int, torch.dtype]]:
        found = []
        for item in self.inputs:
            if item.spec is None or not item.is_random:
                continue
            fill = DISTRIBUTIONS.get(item.spec.name or "")
            if fill is None or item.dtype not in ("float32", "float64"):
                raise PlanInputError(
                    f"the Plan '{self.name}' asks for random numbers of the distribution '{item.spec.name}' "
                    f"in {item.dtype}; there are {', '.join(DISTRIBUTIONS)} in float32 and float64"
                )
            found.append((fill, item, item.spec.index or 0, DTYPES[item.dtype]))
        return found

    @functools.cached_property
    def _executors(self) -> Recent[Executor]:
        return Recent(self.most_executors)

    @property
    def most_executors(self) -> int:
        """Sets of shapes for which an executor is kept."""
        least, most = _EXECUTORS
        return max(least, min(most, _KEPT_NODES // max(1, len(self.graph.nodes))))

    def executor(
        self, tensors: Sequence[torch.Tensor], repetition: Repetition | None = None
    ) -> Executor | None:
        """What runs the Plan on arguments like these, if `first_run` has made it."""
        return self._executors.get(_key(tensors, repetition))

    def first_run(
        self, tensors: Sequence[torch.Tensor], repetition: Repetition | None = None
    ) -> tuple[list[torch.Tensor], Executor]:
        """Checks the Plan for these shapes, runs it operation by operation and compiles it for them.

        This is the only way to an executor, so nothing runs that was not checked.

        Args:
            tensors: what `arguments` gave; they are not changed.
            repetition: what the caller grants to the executor.

        Returns:
            The outputs, and the executor for further arguments of these shapes.

        Raises:
            PlanLimitError: the run would use more than `limits`.
            PlanExecutionError: an operation failed.
        """
        shapes = [(tuple(t.shape), dtype_name(t.dtype)) for t in tensors]
        outputs, values = first_run(self.graph, tensors, measure(self.graph, shapes, self.limits))
        run = compile_graph(self.graph, values, tensors, repetition)
        self._executors.keep(_key(tensors, repetition), run)
        return outputs, run

    def check(self, shapes: Sequence[ShapeAndDType], limits: Limits = DEFAULT_LIMITS) -> Cost:
        """Finds out what a run would need, without data.

        Args:
            shapes: shape and dtype name of each argument, such as ``((64, 784), "float32")``.
            limits: what the run may use.

        Raises:
            PlanInputError: the shapes do not fit the inputs.
            PlanLimitError: the run would use more than allowed.
            PlanExecutionError: an operation cannot work with these shapes.
        """
        check_count(self.name, self.inputs, len(shapes))
        for (shape, dtype), item in zip(shapes, self.inputs, strict=True):
            item.check(shape, dtype)
        return measure(self.graph, shapes, limits).cost

    def works_with(self, rows: int) -> bool:
        """Whether the Plan runs on so many rows, as far as its limits let it be looked at.

        Raises:
            PlanFormatError: the Plan does not say the shapes of its inputs.
        """
        try:
            self.check([item.with_rows(rows) for item in self.inputs], self.limits)
        except PlanLimitError:
            return True
        except PlanExecutionError:
            return False
        return True

    def check_model(self, shapes: Sequence[ShapeAndDType], limits: Limits = DEFAULT_LIMITS) -> None:
        """Checks that the Plan can train a model of these parameters.

        The Plan is run, without data, on the parameters and on two rows (for what may have any size) of
        everything else. A Plan that does not say which inputs are parameters passes unchecked.

        Args:
            shapes: shape and dtype name of each of the model's parameters.
            limits: what a run may use.

        Raises:
            PlanInputError: the Plan has other parameters than the model.
            PlanLimitError: the Plan would use more than allowed.
            PlanExecutionError: an operation cannot work with these shapes.
        """
        if self.input_specs is None:
            return
        arguments = []
        for item in self.inputs:
            if item.spec is not None and item.spec.type == PlanInputSpec.TYPE_MODEL_PARAM:
                index = item.spec.index or 0
                if index >= len(shapes):
                    raise PlanInputError(
                        f"the Plan '{self.name}' trains parameter {index}, the model has only {len(shapes)}"
                    )
                arguments.append(shapes[index])
            elif item.shape is None or item.dtype is None:
                return  # an input of unknown shape: nothing can be said
            else:
                arguments.append(item.with_rows(2))
        cost = self.check(arguments, limits)
        for output, made in zip(self.outputs, cost.outputs, strict=True):
            if output.spec is not None and output.spec.type == PlanOutputSpec.TYPE_MODEL_PARAM:
                index = output.spec.index or 0
                if index >= len(shapes) or made != (tuple(shapes[index][0]), shapes[index][1]):
                    wanted = shapes[index] if index < len(shapes) else "nothing"
                    raise PlanInputError(
                        f"the Plan '{self.name}' returns {made} as parameter {index}; the model has {wanted}"
                    )


def _key(tensors: Sequence[torch.Tensor], repetition: Repetition | None) -> Hashable:
    return repetition, tuple((t.shape, t.dtype, t.device) for t in tensors)
