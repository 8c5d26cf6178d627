"""A Plan for many clients side by side: one run computes what each of them would compute alone."""

import dataclasses
import functools
from collections.abc import Collection, Sequence
from typing import Any

import torch

from fedplan.errors import PlanInputError
from fedplan.plan.clients.compiler import compile_for_clients
from fedplan.plan.ops import dtype_name
from fedplan.plan.plan import Plan
from fedplan.plan.run.check import ShapeAndDType, first_run, measure
from fedplan.plan.run.compiler import Executor, Repetition
from fedplan.plan.run.recent import Recent
from fedplan.plan.signature import PlanInput, Role, check_count
from fedplan.plan.spec import PlanInputSpec

_OWN = frozenset(
    (
        PlanInputSpec.TYPE_DATA,
        PlanInputSpec.TYPE_TARGET,
        PlanInputSpec.TYPE_MODEL_PARAM,
        PlanInputSpec.TYPE_OPTIMIZER_STATE,
        PlanInputSpec.TYPE_RANDOM,
        PlanInputSpec.TYPE_STEP,
        PlanInputSpec.TYPE_MASK,
    )
)
"""What each client has of its own."""

EXECUTORS = 64
"""Sets of shapes for which an executor is kept: the last batches of clients have many sizes."""


AT_ONCE_BYTES = 16 * 2**20
"""Half of a level 3 cache of today. A quarter of it, or twice as much, took up to 40 % longer."""


def over_clients(plan: Plan) -> "ClientsPlan":
    """The Plan for many clients side by side.

    Args:
        plan: any Plan; what each client computes is not changed.
    """
    return ClientsPlan(plan)


@dataclasses.dataclass(frozen=True, eq=False)
class ClientsPlan:
    """Runs a Plan for many clients at once.

    An argument that is *apart* has a first axis of clients: (clients, …) where the Plan has (…). All others
    are shared. Every output has the axis. How many clients there are may differ from run to run.

    Results are those of each client alone to within rounding.

    Attributes:
        plan: what each client runs.
    """

    plan: Plan

    @functools.cached_property
    def apart(self) -> tuple[int, ...]:
        """Places of the inputs of which each client has its own, by what the Plan says that they stand for.

        These are data, targets, random numbers, the number of the step, the optimizer's state, and all
        tensors of the model that are not frozen. The model as received is apart where it is private.
        """
        return tuple(place for place, item in enumerate(self.plan.inputs) if _is_own(item))

    def __call__(self, data: Sequence[Any], *, apart: Collection[int] | None = None) -> list[torch.Tensor]:
        """Runs the Plan once for each client.

        Args:
            data: one argument an input; they are not changed.
            apart: places of those with an axis of clients; `apart` of the Plan by default.

        Returns:
            The outputs, in order, each with an axis of clients.

        Raises:
            PlanInputError: the arguments do not fit the inputs, or are of different numbers of clients.
            PlanLimitError: one client's run would use more than the Plan's limits.
            PlanExecutionError: an operation failed, or cannot be computed for many clients at once.
        """
        places = self.apart if apart is None else tuple(sorted(apart))
        tensors = self.arguments(data, places)
        return self.executor(tensors, places, Repetition())(tensors)

    def arguments(self, data: Sequence[Any], apart: Collection[int]) -> list[torch.Tensor]:
        """The arguments as tensors that fit the inputs, contiguous and without gradients.

        Raises:
            PlanInputError: the arguments do not fit the inputs, or are of different numbers of clients.
        """
        check_count(self.plan.name, self.plan.inputs, len(data))
        pairs = zip(data, self.plan.inputs, strict=True)
        tensors = [
            stacked(value, item) if place in apart else item.tensor(value)
            for place, (value, item) in enumerate(pairs)
        ]
        check_counts([(tensors[place], self.plan.inputs[place]) for place in apart])
        return tensors

    def at_once(self, shapes: Sequence[ShapeAndDType], memory: int = AT_ONCE_BYTES) -> int:
        """How many clients to run at once, so that what one step works on stays in the processor's cache.

        Args:
            shapes: shape and dtype of each argument of one client, as for `Plan.check`.
            memory: bytes for all clients together: of the cache, or of a device.

        Returns:
            At least 1.

        Raises:
            PlanInputError: the shapes do not fit the inputs.
            PlanLimitError: one client's run would use more than the Plan's limits.
        """
        return max(1, memory // max(self.plan.check(shapes, self.plan.limits).peak_bytes, 1))

    @functools.cached_property
    def _executors(self) -> Recent[Executor]:
        return Recent(EXECUTORS)

    def executor(
        self, tensors: Sequence[torch.Tensor], apart: Sequence[int], repetition: Repetition
    ) -> Executor:
        """What runs the Plan on arguments like these, for any number of clients.

        It is made from a run of the first client alone, operation by operation, under the Plan's checks and
        limits.

        Args:
            tensors: what `arguments` gave.
            apart: places of those with an axis of clients, in ascending order.
            repetition: what the caller grants; inputs that it fixes are shared.

        Raises:
            PlanLimitError: one client's run would use more than the Plan's limits.
            PlanExecutionError: an operation failed, or cannot be computed for many clients at once.
        """
        one = [tensor[0] if place in apart else tensor for place, tensor in enumerate(tensors)]
        key = (tuple(apart), repetition, tuple((t.shape, t.dtype, t.device) for t in one))
        found = self._executors.get(key)
        if found is None:
            plan = self.plan
            measured = measure(plan.graph, [(tuple(t.shape), dtype_name(t.dtype)) for t in one], plan.limits)
            _, values = first_run(plan.graph, one, measured)
            found = compile_for_clients(plan.graph, values, one, apart, repetition)
            self._executors.keep(key, found)
        return found


def _is_own(item: PlanInput) -> bool:
    if item.spec is None:
        return False
    if item.spec.type == PlanInputSpec.TYPE_RECEIVED_PARAM:
        return item.role is Role.PRIVATE
    return item.spec.type in _OWN and item.role is not Role.FROZEN


def stacked(value: Any, item: PlanInput) -> torch.Tensor:
    """An argument with an axis of clients, contiguous.

    Raises:
        PlanInputError: it is no such tensor, or a client's part does not fit the input.
    """
    if not isinstance(value, torch.Tensor) or not value.dim() or not len(value):
        raise PlanInputError(
            f"the argument '{item.name}' needs a first axis of clients: a tensor of the shape (clients, …), "
            f"and it is {tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__}"
        )
    item.check(value.shape[1:], dtype_name(value.dtype))
    return value.detach().contiguous()


def check_counts(given: Sequence[tuple[torch.Tensor, PlanInput]]) -> int:
    """How many clients these arguments are of.

    Raises:
        PlanInputError: they are of different numbers, or there is none.
    """
    counts = {len(tensor) for tensor, _ in given}
    if len(counts) == 1:
        return counts.pop()
    listed = ", ".join(f"'{item.name}' of {len(tensor)}" for tensor, item in given) or "none"
    raise PlanInputError(
        f"arguments with an axis of clients need the same number of clients; there are {listed}"
    )
