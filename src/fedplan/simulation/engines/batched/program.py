"""A Plan for clients side by side, with all that is the same for them in one cycle."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedplan.client.training.arguments import as_declared, fixed_value, places_of, zeros_of
from fedplan.client.training.device import put
from fedplan.client.training.specs import complete_inputs, complete_outputs
from fedplan.client.training.training import Training
from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec
from fedplan.plan.clients.plan import AT_ONCE_BYTES, ClientsPlan
from fedplan.plan.clients.training import ClientsTraining
from fedplan.plan.ops import dtype_name
from fedplan.plan.signature import Role
from fedplan.simulation.engines.batched.course import Stretch

_DEVICE_BYTES = 1 << 30
"""Of an accelerator's memory, for what one step of all clients works on."""


def refusal(plan: Plan) -> str | None:
    """Why the steps of clients cannot be followed side by side; None when they can, as far as is known."""
    if plan.dp is not None:
        return f"the Plan '{plan.name}' does DP-SGD, and each client draws batches of other sizes"
    inputs = complete_inputs(plan, None)
    outputs = complete_outputs(plan, None, inputs)
    kinds = (
        (PlanInputSpec.TYPE_MODEL_PARAM, PlanOutputSpec.TYPE_MODEL_PARAM),
        (PlanInputSpec.TYPE_OPTIMIZER_STATE, PlanOutputSpec.TYPE_OPTIMIZER_STATE),
    )
    for taken, returned in kinds:
        times = Counter(inputs[place].index for place in places_of(inputs, taken))
        for output in places_of(outputs, returned):
            if (count := times[outputs[output].index]) != 1:
                return (
                    f"the Plan '{plan.name}' returns {returned} {outputs[output].index} for its next step, "
                    f"and takes it {count} times"
                )
    return None


class Program:
    """Reads what a Plan's inputs and outputs stand for, as `TrainingStep` does for one client.

    Attributes:
        training: the Plan, and what is the same for all clients.
        draws: whether the Plan takes random numbers.
        numbered: places of the inputs that take the number of the step.
        sizes: places of the inputs that take the number of samples in a batch.
        measured: name and output of each number that the Plan measures.
        loss: the output that is the loss; None when there is none.

    Args:
        clients: the Plan for many clients.
        training: the same Plan, which `refusal` has no word against.
        cycle: number of the cycle.
        private: of the model, the tensors that each client keeps for itself.
        scheduled: names in the client_config of numbers that change from cycle to cycle. What runs the Plan
            is not made for their values, so it serves all cycles.
    """

    def __init__(
        self,
        clients: ClientsPlan,
        training: Training,
        cycle: int,
        private: Collection[int],
        scheduled: Collection[str] = (),
    ) -> None:
        self.training = training
        self._clients = clients
        inputs, outputs = training.inputs, training.outputs
        self._batch = places_of(inputs, PlanInputSpec.TYPE_DATA, PlanInputSpec.TYPE_TARGET)
        self.sizes = places_of(inputs, PlanInputSpec.TYPE_BATCH_SIZE)
        self._random = places_of(inputs, PlanInputSpec.TYPE_RANDOM)
        self.numbered = places_of(inputs, PlanInputSpec.TYPE_STEP)
        self._private = frozenset(private)
        self._given, self._fixed = self._shared(cycle, scheduled)
        self._params = {p: inputs[p].index or 0 for p in places_of(inputs, PlanInputSpec.TYPE_MODEL_PARAM)}
        self._received = {
            p: inputs[p].index or 0 for p in places_of(inputs, PlanInputSpec.TYPE_RECEIVED_PARAM)
        }
        self._state = {p: inputs[p].index or 0 for p in places_of(inputs, PlanInputSpec.TYPE_OPTIMIZER_STATE)}
        self._zeros = zeros_of(inputs, training.plan.inputs, training.device)
        self._carried = {
            **self._returned(PlanOutputSpec.TYPE_MODEL_PARAM, self._params),
            **self._returned(PlanOutputSpec.TYPE_OPTIMIZER_STATE, self._state),
        }
        metrics = [(str(outputs[k].name), k) for k in places_of(outputs, PlanOutputSpec.TYPE_METRIC)]
        self.loss = next(iter(places_of(outputs, PlanOutputSpec.TYPE_LOSS)), None)
        loss = [] if self.loss is None else [("loss", self.loss)]
        self.measured: Mapping[str, int] = dict([*metrics, *loss])  # as in `TrainingStep`
        self._apart = [place for place in range(len(inputs)) if self._is_apart(place)]

    @property
    def draws(self) -> bool:
        """Whether the Plan takes random numbers."""
        return bool(self._random)

    def begin(self, models: Sequence[Sequence[Tensor]]) -> ClientsTraining:
        """Clients that have not trained yet.

        Args:
            models: of each client all tensors of the model as it received it.

        Returns:
            What takes `values` in each run.
        """
        arguments: list[Any] = [self._given.get(place) for place in range(len(self.training.inputs))]
        for place, index in (*self._params.items(), *self._received.items()):
            arguments[place] = self._of_model(models, index, place in self._apart)
        for place, index in self._state.items():
            arguments[place] = self._zeros[index].expand(len(models), *self._zeros[index].shape).clone()
        return ClientsTraining(
            self._clients,
            arguments,
            varying=[*self._batch, *self.sizes, *self._random, *self.numbered],
            carried=self._carried,
            fixed=self._fixed,
            apart=self._apart,
        )

    def stacked(self, parts: Sequence[tuple[Stretch, int]], count: int) -> list[Tensor]:
        """The data and targets of some batches: (batches, clients, rows, …).

        Args:
            parts: of each client, a stretch and the number of the first batch of it.
            count: so many batches.
        """
        found = []
        for number in range(len(self._batch)):
            values = [
                stretch.values[number]
                if count == stretch.count
                else stretch.values[number][first : first + count]
                for stretch, first in parts
            ]
            found.append(self._put(torch.stack(values, 1)))
        return found

    def values(
        self, batch: Sequence[Tensor], rows: int, drawn: Sequence[Sequence[Tensor]], steps: NDArray[np.int64]
    ) -> list[Tensor]:
        """What some clients' next run takes.

        Args:
            batch: data and targets: (clients, rows, …).
            rows: samples in each client's batch.
            drawn: of each client its random numbers; empty if it takes none.
            steps: of each client the number of its step: (clients,).
        """
        found = list(batch)
        for place in self.sizes:
            item = self.training.plan.inputs[place]
            found.append(self._put(item.tensor(as_declared(rows, item))))
        found += [self._put(torch.stack(parts)) for parts in zip(*drawn, strict=True)]
        if self.numbered:
            found += [self._put(torch.as_tensor(steps)).unsqueeze(1)] * len(self.numbered)
        return found

    def trained(self, run: ClientsTraining) -> dict[int, Tensor]:
        """The tensors of the model that clients train, by their places in it: (clients, …), on the CPU."""
        carried = run.carried()
        return {index: carried[place].cpu() for place, index in self._params.items() if place in carried}

    def at_once(self, model: Sequence[Tensor], batches: Stretch) -> int:
        """How many clients to run side by side: see `ClientsPlan.at_once`.

        Args:
            model: its tensors.
            batches: such as clients have.
        """
        examples: list[Any] = [self._given.get(place) for place in range(len(self.training.inputs))]
        for place, value in zip(self._batch, batches.values, strict=True):
            examples[place] = value[0]
        for place, index in (*self._params.items(), *self._received.items()):
            examples[place] = model[index]
        for place, index in self._state.items():
            examples[place] = self._zeros[index]
        shapes = []
        for example, item in zip(examples, self.training.plan.inputs, strict=True):
            if isinstance(example, Tensor):
                shapes.append((tuple(example.shape), dtype_name(example.dtype)))
            else:
                extents = tuple(batches.rows if extent is None else extent for extent in item.shape or ())
                shapes.append((extents, item.dtype or "float32"))
        on_cpu = self.training.device.type == "cpu"
        return self._clients.at_once(shapes, AT_ONCE_BYTES if on_cpu else _DEVICE_BYTES)

    def _shared(self, cycle: int, scheduled: Collection[str]) -> tuple[dict[int, Tensor], list[int]]:
        """The arguments that all clients have in common, and which of them never change."""
        given, fixed = dict[int, Tensor](), list[int]()
        training = self.training
        for place, (item, spec) in enumerate(zip(training.plan.inputs, training.inputs, strict=True)):
            value = fixed_value(item, spec, training.client_config)
            if spec.type == PlanInputSpec.TYPE_CYCLE:
                value = torch.tensor([cycle])
            if value is not None:
                given[place] = self._put(item.tensor(as_declared(value, item)))
                if isinstance(value, int | float) and spec.name not in scheduled:
                    fixed.append(place)
        return given, fixed

    def _returned(self, kind: str, taken: Mapping[int, int]) -> dict[int, int]:
        """Input → output of what goes from run to run."""
        places = {index: place for place, index in taken.items()}
        found = {}
        for output in places_of(self.training.outputs, kind):
            place = places[self.training.outputs[output].index or 0]
            if self.training.plan.inputs[place].role is not Role.FROZEN:
                found[place] = output
        return found

    def _is_apart(self, place: int) -> bool:
        """Whether each client has its own argument there."""
        if place in self._params:
            return place in self._carried or self._params[place] in self._private
        if place in self._received:
            return self._received[place] in self._private
        return place in (*self._batch, *self._random, *self.numbered, *self._state)

    def _of_model(self, models: Sequence[Sequence[Tensor]], index: int, apart: bool) -> Tensor:
        if not apart:
            return self._put(models[0][index].detach())
        if index in self._private:
            return torch.stack([self._put(model[index].detach()) for model in models])
        tensor = self._put(models[0][index].detach())
        return tensor.expand(len(models), *tensor.shape).clone(memory_format=torch.contiguous_format)

    def _put(self, tensor: Tensor) -> Tensor:
        return put(tensor, self.training.device)
