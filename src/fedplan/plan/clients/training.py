"""Training many clients side by side: a Plan that runs again and again on what it returned."""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import PlanExecutionError, PlanInputError
from fedplan.plan.clients.plan import EXECUTORS, ClientsPlan, check_counts, stacked
from fedplan.plan.ops import dtype_name
from fedplan.plan.run.compiler import Executor, Repetition
from fedplan.plan.run.recent import Recent
from fedplan.plan.signature import PlanInput

Among = slice | torch.Tensor | None
"""Which clients: a range of them, their numbers (int64, each once), or None for all."""


class ClientsTraining:
    """What `RepeatedPlan` is for one client: parameters and optimizer state are updated where they stand.

    ::

        run = ClientsTraining(over_clients(plan), arguments, varying=[0, 1], carried={3: 1, 4: 2}, fixed=[2])
        for x, y in batches:  # (clients, rows, …) each
            outputs = run([x, y])

    Clients whose batches have another number of rows run among themselves: ``run([x, y], among=numbers)``.
    Nothing is padded, since a mean, and a batch norm's statistics, are over the rows that there are.
    """

    def __init__(
        self,
        clients: ClientsPlan,
        arguments: Sequence[Any],
        *,
        varying: Sequence[int],
        carried: Mapping[int, int],
        fixed: Sequence[int] = (),
        apart: Sequence[int] | None = None,
    ) -> None:
        """Takes the arguments over.

        Args:
            clients: what to run.
            arguments: one an input; those that are apart have a first axis of clients. Those that are
                carried belong to this object from now on: they are written over, and nobody else may have
                their memory. Those that vary may be anything.
            varying: inputs that get another value in each run.
            carried: input → the output that takes its place; these are apart. A frozen tensor, which comes
                back as it was, is better left out: it is shared then.
            fixed: shared inputs that keep their value; those of one floating-point number are compiled in.
            apart: inputs of which each client has its own; what the Plan says by default.

        Raises:
            PlanInputError: the arguments do not fit the inputs, or what is fixed is apart.
        """
        self._clients = clients
        self._apart = tuple(sorted({*(clients.apart if apart is None else apart), *carried}))
        inputs = clients.plan.inputs
        if set(self._apart) & set(fixed):
            raise PlanInputError("an input of which each client has its own cannot be compiled in as fixed")
        self._varying = [(place, inputs[place], place in self._apart) for place in varying]
        self._carried = tuple((output, place) for place, output in carried.items())
        self._fixed = tuple(fixed)
        self._own = [place for place in self._apart if place not in varying]
        self._arguments: list[Any] = [
            value
            if place in varying
            else stacked(value, inputs[place])
            if place in self._apart
            else inputs[place].tensor(value)
            for place, value in enumerate(arguments)
        ]
        own = [(self._arguments[place], inputs[place]) for place in self._own]
        self.count = check_counts(own) if own else None
        """How many clients there are; None where a run's own arguments say it, since nothing is carried."""
        self._runs: Recent[Executor] = Recent(EXECUTORS)

    def carried(self) -> dict[int, torch.Tensor]:
        """What goes from run to run, by the place of its input: (clients, …). The next run writes over it."""
        return {place: self._arguments[place] for _, place in self._carried}

    def __call__(self, values: Sequence[Any], among: Among = None) -> list[torch.Tensor]:
        """One run.

        Args:
            values: one for each input that varies, in their order; those that are apart have a first axis of
                the clients that run.
            among: which clients run; all by default. A range is quicker than numbers.

        Returns:
            The outputs for these clients, in order. Those that are carried belong to this object: copy what
            is to be kept.

        Raises:
            PlanInputError: the arguments do not fit the inputs, or are of another number of clients.
            PlanLimitError: one client's run would use more than the Plan's limits.
            PlanExecutionError: an operation failed, or cannot be computed for many clients at once; what is
                carried is as it was before.
        """
        arguments = list(self._arguments)
        if among is not None:
            _check_once(among)
            for place in self._own:
                arguments[place] = _some(arguments[place], among)
        count = len(arguments[self._own[0]]) if self._own else None
        key: list[Hashable] = []
        for (place, item, apart), value in zip(self._varying, values, strict=True):
            # a tensor that looks like one that was checked before needs no other check
            plain = type(value) is torch.Tensor and value.is_contiguous() and not value.requires_grad
            tensor = value if plain else stacked(value, item) if apart else item.tensor(value)
            shape = tensor.shape
            if apart and count is None and shape:
                count = shape[0]
            if apart and (not shape or shape[0] != count):
                raise PlanInputError(
                    f"the argument '{item.name}' has the shape {tuple(shape)}, and needs a first axis of the "
                    f"{count} clients that run"
                )
            arguments[place] = tensor
            key += (shape[1:] if apart else shape, tensor.dtype, tensor.device)
        seen = tuple(key)
        run = self._runs.get(seen)
        if run is None:
            run = self._executor(arguments)
            self._runs.keep(seen, run)
        outputs = run(arguments)
        with torch.inference_mode():  # an executor's outputs may be written over nowhere else
            self._keep(arguments, outputs, among)
        return outputs

    def among(self, numbers: Sequence[int]) -> Among:
        """Some clients in the quickest form: all, a range, or their numbers.

        Args:
            numbers: ascending.
        """
        return (
            None
            if self.count is None
            else _shortly(numbers, self.count, self._arguments[self._own[0]].device)
        )

    def _executor(self, arguments: Sequence[torch.Tensor]) -> Executor:
        """What runs arguments of shapes that were not seen before, which are checked now."""
        for place, item, apart in self._varying:
            value = arguments[place]
            item.check(value.shape[1:] if apart else value.shape, dtype_name(value.dtype))
        numbers = [
            (place, arguments[place].item())
            for place in self._fixed
            if arguments[place].numel() == 1 and arguments[place].is_floating_point()
        ]
        return self._clients.executor(arguments, self._apart, Repetition(tuple(numbers), self._carried))

    def _keep(self, arguments: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor], among: Among) -> None:
        """Puts what is carried into its place for the next run."""
        for output, place in self._carried:
            before, after = arguments[place], outputs[output]
            if before.shape != after.shape or before.dtype != after.dtype:
                item = self._clients.plan.inputs[place]
                raise PlanExecutionError(
                    f"'{item.name}' came back as {tuple(after.shape)} {after.dtype}, and was "
                    f"{tuple(before.shape)} {before.dtype}: compute such clients one after the other"
                )
            if among is None:
                self._arguments[place] = after
            elif isinstance(among, torch.Tensor):
                self._arguments[place].index_copy_(0, among, after)
            elif after.data_ptr() != before.data_ptr():
                before.copy_(after)

    def step(self, batches: Sequence[Sequence[torch.Tensor] | None]) -> list[list[torch.Tensor] | None]:
        """One run for each client that has a batch, whatever the batches' sizes: those alike run together.

        Args:
            batches: for each client the values of the inputs that vary, without an axis of clients; None for
                a client that has no batch left.

        Returns:
            For each client its outputs, without those that are carried; None where there was no batch.
        """
        groups: dict[Hashable, list[int]] = {}
        for number, batch in enumerate(batches):
            if batch is not None:
                groups.setdefault(tuple((value.shape, value.dtype) for value in batch), []).append(number)
        kept = {output for output, _ in self._carried}
        found: list[list[torch.Tensor] | None] = [None] * len(batches)
        for numbers in groups.values():
            members = [batch for batch in map(batches.__getitem__, numbers) if batch is not None]
            values = [
                torch.stack(parts) if apart else _common(item, parts)
                for (_, item, apart), parts in zip(self._varying, zip(*members, strict=True), strict=True)
            ]
            outputs = self(values, self.among(numbers))
            for place, number in enumerate(numbers):
                found[number] = [value[place] for k, value in enumerate(outputs) if k not in kept]
        return found


def _check_once(among: slice | torch.Tensor) -> None:
    """Raises PlanInputError when a client is named twice: only one of its two updates would stay."""
    if isinstance(among, torch.Tensor) and len(set(among.tolist())) != len(among):
        raise PlanInputError(
            "a client trains once in a run, and is named twice: let it take its steps in turn"
        )


def _some(tensor: torch.Tensor, among: slice | torch.Tensor) -> torch.Tensor:
    return tensor[among] if isinstance(among, slice) else tensor.index_select(0, among)


def _common(item: PlanInput, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The value that all these clients share."""
    if any(not torch.equal(part, parts[0]) for part in parts[1:]):
        raise PlanInputError(
            f"clients that run together share the argument '{item.name}', and were given different ones: "
            "name it in `apart`"
        )
    return parts[0]


def _shortly(numbers: Sequence[int], count: int, device: torch.device) -> Among:
    """Ascending numbers of clients, as a range where they are one."""
    if len(numbers) == count:
        return None
    if all(b - a == 1 for a, b in itertools.pairwise(numbers)):
        return slice(numbers[0], numbers[-1] + 1)
    return torch.tensor(numbers, device=device)
