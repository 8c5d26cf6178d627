"""One training step: a Plan with its arguments in place.

The specs are read once: what stays the same and what the Plan returns for itself is handed over to it, and a
batch costs a few list accesses beyond the Plan. The parameters that the Plan works on belong to it alone; it
writes over them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedplan.client.training.arguments import as_declared, fixed_value, places_of, zeros_of
from fedplan.client.training.batch_layout import Taker, taker
from fedplan.client.training.batches import Locator
from fedplan.client.training.checkpoint import RandomState
from fedplan.client.training.device import CPU, put
from fedplan.client.training.measurements import Measurements
from fedplan.client.training.poisson import PoissonBatches
from fedplan.errors import ConfigError, DataError, ModelMismatchError
from fedplan.federation.privacy import DpSgdSteps, ExamplePrivacy
from fedplan.plan import Plan, PlanInput, PlanInputSpec, PlanOutputSpec, RepeatedPlan
from fedplan.plan.random import NORMAL
from fedplan.wire import Summary


@dataclasses.dataclass(slots=True)
class _Slot:
    """A tensor that the Plan takes and gives back changed: a model parameter, or one of the optimizer's."""

    tensor: Tensor
    places: list[int]
    """Where it stands in the argument list."""


class TrainingStep:
    """Runs a Plan on a batch, and puts what it returns back in place for the next one."""

    def __init__(
        self,
        plan: Plan,
        source: Locator,
        *,
        inputs: Sequence[PlanInputSpec],
        outputs: Sequence[PlanOutputSpec],
        client_config: Mapping[str, Any],
        batch_size: int | None,
        params: Sequence[Tensor],
        received: Sequence[Tensor] | None = None,
        start: RandomState,
        device: torch.device = CPU,
    ) -> None:
        """Reads the specs.

        Args:
            plan: what to run.
            source: knows where in a batch the data is.
            inputs: what the Plan's inputs stand for, one for each.
            outputs: what the Plan's outputs stand for.
            client_config: values for the inputs that name one.
            batch_size: for a Plan that takes a batch size and no data.
            params: the model's parameters, before training; they are copied.
            received: the model's parameters as they came in this cycle; `params` as they are now by default.
            start: draws the Plan's random inputs, and says the numbers of the cycle and of the first step.
            device: where the Plan runs.

        Raises:
            ConfigError: a spec lacks its index, the client_config a key, or the number of a cycle that the
                Plan reads is not known; or the device cannot hold a tensor.
            ModelMismatchError: the specs mean parameters that the model does not have.
        """
        self._plan = plan
        self._source = source
        self._device, self._on_cpu = device, device == CPU
        self._random, self._cycle = start.stream, start.cycle
        self.number = start.step
        """How many batches were trained on; random inputs are drawn for the next one by it."""
        self.measurements = Measurements()
        """What the batches measured."""
        self._inputs = inputs
        given = [
            fixed_value(item, spec, client_config) for item, spec in zip(plan.inputs, inputs, strict=True)
        ]
        self._fixed = [place for place, value in enumerate(given) if isinstance(value, int | float)]
        pairs = zip(given, plan.inputs, strict=True)
        self._arguments = [None if v is None else self._put(as_declared(v, item), item) for v, item in pairs]
        self._size, self._sizes = batch_size, list[Any]()
        self._size_places = places_of(inputs, PlanInputSpec.TYPE_BATCH_SIZE)
        self._drawn = places_of(inputs, PlanInputSpec.TYPE_RANDOM)
        self._masks = places_of(inputs, PlanInputSpec.TYPE_MASK)
        self._poisson = source if isinstance(source, PoissonBatches) else None
        _check_dp(plan, bool(self._masks))
        self._count_cycles()
        self._params = self._slots(PlanInputSpec.TYPE_MODEL_PARAM, [self._own(param) for param in params])
        self._receive(params if received is None else received)
        self._numbered = places_of(inputs, PlanInputSpec.TYPE_STEP)
        zeros = zeros_of(self._inputs, plan.inputs, device)
        self._optimizer = self._slots(PlanInputSpec.TYPE_OPTIMIZER_STATE, zeros)
        self._feedback = [
            *_returned(outputs, PlanOutputSpec.TYPE_MODEL_PARAM, self._params),
            *_returned(outputs, PlanOutputSpec.TYPE_OPTIMIZER_STATE, self._optimizer),
        ]
        self._loss = next(iter(places_of(outputs, PlanOutputSpec.TYPE_LOSS)), None)
        metrics = places_of(outputs, PlanOutputSpec.TYPE_METRIC)
        loss = [] if self._loss is None else [self._loss]
        self._measured = [*metrics, *loss]
        self._metrics = [str(outputs[place].name) for place in metrics]
        self._names = [*self._metrics, *("loss" for _ in loss)]  # a metric of the name "loss" gives way
        self._values: list[Any] = []  # what the last batch measured
        self._taker: Taker = taker([])
        self._taken: list[PlanInput] = []
        self._moves = False  # whether batches come from another device
        self._shared: dict[int, _Slot] = {}  # places of what goes to several inputs
        self._run: RepeatedPlan | None = None  # made when the first batch is seen

    def _slots(self, kind: str, tensors: Sequence[Tensor]) -> list[_Slot]:
        slots = [_Slot(tensor, []) for tensor in tensors]
        for place in places_of(self._inputs, kind):
            _slot(slots, self._inputs[place]).places.append(place)
        return slots

    def _receive(self, received: Sequence[Tensor]) -> None:
        """Puts the model as received into its places; nothing writes over it."""
        for place in places_of(self._inputs, PlanInputSpec.TYPE_RECEIVED_PARAM):
            slots = [_Slot(tensor, []) for tensor in received]
            self._arguments[place] = self._own(_slot(slots, self._inputs[place]).tensor)

    def _count_cycles(self) -> None:
        """Puts the cycle's number into its places."""
        for place in places_of(self._inputs, PlanInputSpec.TYPE_CYCLE):
            if self._cycle is None:
                raise ConfigError(
                    f"the Plan '{self._plan.name}' reads the number of the cycle, and nobody tells it: "
                    "pass cycle=1 for the model's first one to PlanTrainer, or train at a grid of fedplan"
                )
            self._arguments[place] = self._put(torch.tensor([self._cycle]), self._plan.inputs[place])

    def _own(self, tensor: Tensor) -> Tensor:
        """A copy on the device, which nobody else writes to."""
        return put(tensor.detach(), self._device).clone()

    def _put(self, value: Any, item: PlanInput) -> Any:
        """An argument on the device; what is on the CPU already the Plan itself makes a tensor that fits."""
        if self._on_cpu and getattr(value, "is_cpu", True):
            return value
        return put(item.tensor(value), self._device)

    @property
    def params(self) -> list[Tensor]:
        """The model's parameters as the last batch left them; the next one writes over them."""
        return [slot.tensor for slot in self._params]

    @property
    def optimizer_state(self) -> list[Tensor]:
        """The optimizer's tensors as the last batch left them; the next one writes over them."""
        return [slot.tensor for slot in self._optimizer]

    @property
    def random_state(self) -> RandomState | None:
        """Where the next batch's random inputs are drawn; None for a Plan that neither draws nor counts."""
        counts = (
            self._drawn or self._numbered or self._masks or places_of(self._inputs, PlanInputSpec.TYPE_CYCLE)
        )
        return RandomState(self._random, self._cycle, self.number) if counts else None

    @property
    def summary(self) -> Summary:
        """What may be told of the training. With DP-SGD that is no loss and no metric: they have no noise.

        Samples are then all that Poisson batches are drawn of: how many were drawn is secret.
        """
        found = self.measurements.summary()
        if self._plan.dp is None:
            return found
        samples = found.samples if self._poisson is None else float(self._poisson.samples)
        return Summary(samples, found.steps)

    @property
    def example_privacy(self) -> ExamplePrivacy | None:
        """What the batches so far have spent of the examples' privacy; None for a Plan without DP-SGD."""
        if self._plan.dp is None:
            return None
        rate = 1.0 if self._poisson is None else self._poisson.rate
        steps = [DpSgdSteps(self._plan.dp.noise_multiplier, rate, self.number)] if self.number else []
        return ExamplePrivacy.of(steps)

    def set_optimizer_state(self, tensors: Sequence[Tensor]) -> None:
        """Goes on with an optimizer's tensors that were kept.

        Raises:
            ModelMismatchError: they are not those of this Plan.
        """
        wanted = [tuple(slot.tensor.shape) for slot in self._optimizer]
        if [tuple(tensor.shape) for tensor in tensors] != wanted:
            raise ModelMismatchError(f"the optimizer's state is not that of the Plan '{self._plan.name}'")
        for slot, tensor in zip(self._optimizer, tensors, strict=True):
            slot.tensor = self._own(tensor)
        self._run = None

    def __call__(self, batch: Any) -> list[Tensor]:
        """Trains on one batch.

        Returns:
            All that the Plan returned.

        Raises:
            PlanError: the batch does not fit the Plan, or the Plan failed.
            DataError: the batch does not hold what the specs mean, or has no samples.
        """
        first = self._run is None
        run = self._begin(batch) if self._run is None else self._run
        values, rows = self._take(batch)
        if self._size_places:
            self._set_size(rows if values else self._size)
            values += self._sizes
        values += [slot.tensor for slot in self._shared.values()]
        if self._drawn:
            drawn = self._plan.draw(self._random, rows, cycle=self._cycle or 0, step=self.number)
            values += [put(numbers, self._device) for numbers in drawn]
        if self._masks:
            mask = torch.ones(rows) if self._poisson is None else batch[-1]
            values += [put(mask, self._device)] * len(self._masks)
            rows = int(mask.sum())
        if self._numbered:
            values += [put(torch.tensor([self.number]), self._device)] * len(self._numbered)
        outputs = run(values)
        self.number += 1
        if first:
            self._check(outputs)
        for place, slot in self._feedback:
            slot.tensor = outputs[place]
        values = [outputs[place] for place in self._measured]
        self._values = list(map(_plain, values)) if self._on_cpu else values  # to fetch one takes long
        self.measurements.add(rows, self._names, self._values)
        return outputs

    def _begin(self, batch: Any) -> RepeatedPlan:
        """Finds the data in the first batch, and hands the tensors over to the Plan that will run."""
        places = places_of(self._inputs, PlanInputSpec.TYPE_DATA, PlanInputSpec.TYPE_TARGET)
        self._taker = taker(self._source.locate([self._inputs[place] for place in places], batch))
        self._taken = [self._plan.inputs[place] for place in places]
        found = self._taker(batch)
        self._moves = not (self._on_cpu and all(getattr(value, "is_cpu", True) for value in found))
        arguments = list(self._arguments)
        for slot in (*self._params, *self._optimizer):
            for place in slot.places:
                arguments[place] = slot.tensor
        outputs = {id(slot): place for place, slot in self._feedback}
        returned = [slot for _, slot in self._feedback]
        self._shared = {place: slot for slot in returned if len(slot.places) > 1 for place in slot.places}
        self._run = RepeatedPlan(
            self._plan,
            arguments,
            varying=[*places, *self._size_places, *self._shared, *self._drawn, *self._masks, *self._numbered],
            carried={s.places[0]: outputs[id(s)] for s in returned if len(s.places) == 1},
            fixed=self._fixed,
        )
        return self._run

    def _take(self, batch: Any) -> tuple[list[Any], int]:
        """The data and targets of a batch, and how many samples it has."""
        try:
            found = self._taker(batch)
        except (LookupError, TypeError) as error:
            raise DataError(
                f"a batch has another form than the first one: data or target is not in it ({error!r})"
            ) from error
        rows = [_rows(value) for value in found]
        if 0 in rows:
            raise DataError("a batch holds no sample: there is nothing to train on. Leave it out")
        values = self._moved(found) if self._moves else list(found)
        return values, rows[0] if rows else self._size or 1

    def _moved(self, found: Sequence[Any]) -> list[Any]:
        return [self._put(value, item) for value, item in zip(found, self._taken, strict=True)]

    def _set_size(self, size: int | None) -> None:
        """A size becomes a tensor when it changes, and not in each run."""
        if size != self._size or not self._sizes:
            self._size = size
            items = [self._plan.inputs[place] for place in self._size_places]
            self._sizes = [self._put(as_declared(size, item), item) for item in items]

    def _check(self, outputs: Sequence[Tensor]) -> None:
        """What is wrong with the specs shows in the first outputs."""
        if self._loss is not None and outputs[self._loss].numel() != 1:
            raise ConfigError(
                f"output {self._loss} of the Plan '{self._plan.name}' is declared as the loss, and has the "
                f"shape {list(outputs[self._loss].shape)}: a loss is one number, a metric may be a list"
            )
        for place, slot in self._feedback:
            if outputs[place].shape != slot.tensor.shape:
                raise ModelMismatchError(
                    f"output {place} of the Plan '{self._plan.name}' has the shape "
                    f"{list(outputs[place].shape)}; what it takes the place of has {list(slot.tensor.shape)}"
                )

    @property
    def loss(self) -> float | None:
        """The last batch's loss; None when no output is one."""
        if self._loss is None:
            return None
        loss = self._values[-1]
        return loss if type(loss) is float else _plain(loss)

    @property
    def metrics(self) -> dict[str, Any]:
        """The last batch's metrics, by name."""
        values = self._values if self._on_cpu else map(_plain, self._values)
        return dict(zip(self._metrics, values, strict=False))


def copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies on the CPU, which share memory with nothing else."""
    return [tensor.clone() if tensor.device == CPU else tensor.cpu() for tensor in tensors]


def _check_dp(plan: Plan, masked: bool) -> None:
    """Refuses a Plan whose constants of DP-SGD cannot be those of its operations, by what it takes.

    Raises:
        ConfigError: it takes a mask and says no constants, or the other way round, or it takes no noise.
    """
    if plan.dp is None and masked:
        raise ConfigError(
            f"the Plan '{plan.name}' takes a mask, and says no constants of DP-SGD that can be read: train "
            "with the version of fedplan that it was made with, or a newer one"
        )
    if plan.dp is None:
        return
    noise = any(item.is_random and item.kind == NORMAL and not item.any_rows for item in plan.inputs)
    if not masked or (plan.dp.noise_multiplier > 0 and not noise):
        raise ConfigError(
            f"the Plan '{plan.name}' says that it does DP-SGD, and takes no {'noise' if masked else 'mask'}, "
            "so it cannot do so: do not train with it, and tell its owner"
        )


def _rows(value: Any) -> int:
    """Samples in what was taken of a batch; the Plan will say what is wrong with anything but an array."""
    shape = getattr(value, "shape", None)
    return shape[0] if shape else 1


def _slot(slots: Sequence[_Slot], spec: PlanInputSpec | PlanOutputSpec) -> _Slot:
    if spec.index is None:
        raise ConfigError(f"a spec of the type {spec.type} needs an index: which of the tensors it means")
    if not 0 <= spec.index < len(slots):
        raise ModelMismatchError(
            f"a spec means {spec.type} {spec.index}, and there are {len(slots)} of them, counted from 0: "
            "these are not of this Plan"
        )
    return slots[spec.index]


def _returned(specs: Sequence[PlanOutputSpec], kind: str, slots: Sequence[_Slot]) -> list[tuple[int, _Slot]]:
    return [(place, _slot(slots, specs[place])) for place in places_of(specs, kind)]


def _plain(value: Any) -> Any:
    """A float, or nested lists when it is not a single number."""
    if type(value) is float or not isinstance(value, Tensor):  # the first is the usual case, and fast
        return value
    return float(value) if value.numel() == 1 else value.tolist()
