"""Clients that do their courses side by side."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedplan.client.training.checkpoint import RandomState
from fedplan.client.training.measurements import Measurements
from fedplan.errors import PlanError
from fedplan.simulation.engines.batched.course import Course, Stretch, length_of
from fedplan.simulation.engines.batched.program import Program


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One client of a group.

    Attributes:
        model: all tensors of the model as it received it.
        course: its batches.
        start: draws its random numbers; None where the Plan takes none.
    """

    model: Sequence[Tensor]
    course: Course
    start: RandomState | None


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """What came of one client's course.

    Attributes:
        params: the model as it left it: all of its tensors.
        measurements: what its batches measured.
    """

    params: Sequence[Tensor]
    measurements: Measurements


@dataclasses.dataclass(frozen=True, slots=True)
class Sides:
    """What came of the courses of some clients.

    Attributes:
        each: of each client, in their order.
        stacks: the same tensors of the model for all clients at once, (clients, …); None for one that all of
            them left as it was. Empty if the clients were not computed side by side.
    """

    each: Sequence[Side]
    stacks: Sequence[Tensor | None] = ()


def side_by_side(program: Program, members: Sequence[Member]) -> Sides:
    """Runs the courses of some clients.

    Args:
        program: by which Plan.
        members: the clients; their courses have the same number of epochs.

    Returns:
        What came of each, in their order.

    Raises:
        PlanError: the Plan failed, or cannot be computed for these clients at once.
    """
    order = sorted(range(len(members)), key=lambda k: -length_of(members[k].course.epochs[0]))
    group = _Group(program, [members[k] for k in order])
    group.run()
    back = sorted(range(len(order)), key=order.__getitem__)
    return group.sides(None if back == sorted(order) else torch.tensor(back))


class _Group:
    """Members, those with the most batches first: so those who still train stand side by side."""

    def __init__(self, program: Program, members: Sequence[Member]) -> None:
        self._program = program
        self._members = members
        self._run = program.begin([member.model for member in members])
        self._measured = _Measured(len(members))

    def run(self) -> None:
        """Runs all batches of all epochs."""
        for epoch in range(len(self._members[0].course.epochs)):
            self._measured.begin_epoch()
            for numbers, parts, count in _turns([member.course.epochs[epoch] for member in self._members]):
                self._turn(numbers, parts, count)

    def sides(self, order: Tensor | None) -> Sides:
        """What came of the members; in an order, if there is one."""
        stacks: list[Tensor | None] = [None] * len(self._members[0].model)
        for index, tensor in self._program.trained(self._run).items():
            stacks[index] = tensor if order is None else tensor.index_select(0, order)
        numbers = range(len(self._members)) if order is None else order.tolist()
        columns = [
            [self._members[number].model[index] for number in numbers] if stack is None else stack.unbind()
            for index, stack in enumerate(stacks)
        ]
        measured = list(self._measured.each())
        owns = zip(*columns, strict=True)
        return Sides([Side(own, measured[at]) for own, at in zip(owns, numbers, strict=True)], stacks)

    def _turn(self, numbers: Sequence[int], parts: Sequence[tuple[Stretch, int]], count: int) -> None:
        """Some batches of each of some members."""
        program, rows, among = self._program, parts[0][0].rows, self._run.among(numbers)
        stacked = program.stacked(parts, count)
        batches = zip(*stacked, strict=True) if stacked else itertools.repeat((), count)
        steps = self._measured.steps[numbers]
        measured: dict[str, list[Tensor]] = {name: [] for name in program.measured}
        for number, batch in enumerate(batches):
            drawn = self._drawn(numbers, rows, steps + number) if program.draws else []
            outputs = self._run(program.values(batch, rows, drawn, steps + number), among)
            for name, at in program.measured.items():
                measured[name].append(outputs[at])
                if at == program.loss and outputs[at].numel() != len(numbers):
                    raise PlanError("its loss is not one number for each client")
        self._measured.add(numbers, rows, count, measured)

    def _drawn(self, numbers: Sequence[int], rows: int, steps: NDArray[np.int64]) -> list[Sequence[Tensor]]:
        """Of each member the random numbers of its step."""
        plan, found = self._program.training.plan, list[Sequence[Tensor]]()
        for number, step in zip(numbers, steps.tolist(), strict=True):
            start = self._members[number].start
            if start is not None:
                found.append(plan.draw(start.stream, rows, cycle=start.cycle or 0, step=step))
        return found


_BLOCK_BYTES = 1 << 22
"""Of data that is laid side by side at once."""


def _turns(
    courses: Sequence[Sequence[Stretch]],
) -> Iterator[tuple[list[int], list[tuple[Stretch, int]], int]]:
    """Which members run together, on what (from which batch of a stretch on), and how many batches.

    Who has the most batches left says of what shape the next ones are, and all who have such a batch next run
    it. So whole batches come before the last, smaller ones, and those run together that are of one size.
    """
    left = [length_of(course) for course in courses]
    at, done = (
        [0] * len(courses),
        [0] * len(courses),
    )  # number of the stretch, and batches of it that were run
    while most := max(left):
        leader = left.index(most)
        shape = courses[leader][at[leader]].shape
        numbers = [
            number
            for number, course in enumerate(courses)
            if left[number] and course[at[number]].shape == shape
        ]
        parts = [(courses[number][at[number]], done[number]) for number in numbers]
        size = sum(value[0].nbytes for value in parts[0][0].values) * len(parts)
        count = min(stretch.count - first for stretch, first in parts)
        count = min(count, max(1, _BLOCK_BYTES // max(size, 1)))
        yield numbers, parts, count
        for number, (stretch, _) in zip(numbers, parts, strict=True):
            left[number] -= count
            done[number] += count
            if done[number] == stretch.count:
                at[number], done[number] = at[number] + 1, 0


class _Measured:
    """The `Measurements` of all members: the same sums, in arrays."""

    def __init__(self, count: int) -> None:
        self.steps = np.zeros(count, np.int64)
        self._samples = np.zeros(count, np.int64)
        self._epoch = np.zeros(count, np.int64)
        self._totals: dict[str, NDArray[np.float64]] = {}
        self._weights: dict[str, NDArray[np.float64]] = {}

    def begin_epoch(self) -> None:
        """The next batches are the first ones of an epoch."""
        self._epoch[:] = 0

    def add(
        self, numbers: Sequence[int], rows: int, count: int, measured: Mapping[str, Sequence[Tensor]]
    ) -> None:
        """Takes batches in; what is no single number for each member does not count.

        Args:
            numbers: of the members.
            rows: samples in a batch.
            count: so many batches of each.
            measured: by name, what each of them measured: (members, …).
        """
        where = np.asarray(numbers)
        self.steps[where] += count
        self._epoch[where] += rows * count
        self._samples = np.maximum(self._samples, self._epoch)
        for name, values in measured.items():
            if values[0].numel() != len(where):
                continue
            if name not in self._totals:
                self._totals[name] = np.zeros(len(self.steps))
                self._weights[name] = np.zeros(len(self.steps))
            totals = self._totals[name][where]
            for told in torch.stack(list(values)).view(count, -1).double().cpu().numpy():
                totals += told * rows  # batch after batch, as one client adds them up
            self._totals[name][where] = totals
            self._weights[name][where] += rows * count

    def each(self) -> Iterator[Measurements]:
        """Those of each member."""
        for number in range(len(self.steps)):
            told = [name for name, weights in self._weights.items() if weights[number]]
            yield Measurements(
                int(self.steps[number]),
                int(self._samples[number]),
                int(self._epoch[number]),
                {name: float(self._totals[name][number]) for name in told},
                {name: float(self._weights[name][number]) for name in told},
            )
