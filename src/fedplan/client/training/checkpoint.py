"""PlanTrainerCheckpoint: a training that was stopped, as a record and as JSON."""

import base64
import binascii
import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from fedplan.client.cycle.place import Place
from fedplan.client.cycle.private import part_from_json, part_to_json
from fedplan.client.model import SyftModel
from fedplan.client.training.measurements import Measurements
from fedplan.errors import CheckpointError, ConfigError, WireError
from fedplan.plan import RandomStream


@dataclasses.dataclass(frozen=True, slots=True)
class RandomState:
    """Where a training's random numbers go on; see docs/randomness.md.

    Attributes:
        stream: holds the worker's seed.
        cycle: number of the cycle; None when nobody has told it: then the numbers are those of cycle 0.
        step: number of the next batch in the cycle.
    """

    stream: RandomStream
    cycle: int | None
    step: int

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a checkpoint's JSON."""
        return {"seed": self.stream.to_json(), "cycle": self.cycle, "step": self.step}

    @classmethod
    def from_dict(cls, obj: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` gave.

        Raises:
            CheckpointError: something in it is missing or wrong.
        """
        try:
            stream = RandomStream.from_json(obj.get("seed"))
        except ConfigError as error:
            raise CheckpointError(f"the checkpoint's randomState cannot be used: {error}") from None
        return cls(stream, _count(obj, "cycle", optional=True), _count(obj, "step"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanTrainerCheckpoint:
    """Stores a `PlanTrainer`'s state, to resume training from it.

    Its JSON has the reference's keys, so a browser's checkpoint resumes here and the other way round. Six
    more keys are there when they are needed: ``optimizerStateBase64``, ``loaderState``, ``measurements``,
    ``place``, ``randomState`` and ``privateStateBase64``. The last three hold the key that opens the worker's
    place in the cycle, the seed of the training's random numbers, and tensors that the worker keeps for
    itself: keep a checkpoint where the data is, and show it to nobody.

    Attributes:
        epochs: total number of epochs.
        steps_per_epoch: most batches in an epoch; None for all there are.
        batch_size: samples in a batch; None when a DataLoader without one decides.
        client_config: the client config.
        epoch: number of the current epoch, from 0.
        batch: number of the batch to go on with, from 0.
        current_model: the model as trained so far.
        optimizer_state: the optimizer's tensors, when the Plan has any.
        loader_state: how a DataLoader comes back to the same order of samples.
        random_state: where the random numbers go on, and the number of the cycle, when the Plan takes any.
        private_state: by their places in the model, the private tensors as they were when the training began;
            `current_model` has them as trained so far.
        measurements: what the training has measured so far, for its summary.
        place: the worker's place in the cycle, with its request key; None outside of a cycle, and from a
            browser. `Job.resume` comes back to it.
    """

    epochs: int
    steps_per_epoch: int | None = None
    batch_size: int | None = None
    client_config: dict[str, Any] = dataclasses.field(default_factory=dict)
    epoch: int
    batch: int
    current_model: SyftModel
    optimizer_state: SyftModel | None = None
    loader_state: dict[str, Any] | None = None
    random_state: RandomState | None = None
    private_state: Mapping[int, Tensor] = dataclasses.field(default_factory=dict)
    measurements: Measurements | None = None
    place: Place | None = None

    async def to_json(self) -> dict[str, Any]:
        """The checkpoint as a plain object that `json.dumps` takes. `to_dict` is the plain form."""
        return self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """The checkpoint as a plain object that `json.dumps` takes."""
        obj = {
            "epochs": self.epochs,
            "stepsPerEpoch": self.steps_per_epoch,
            "batchSize": self.batch_size,
            "clientConfig": self.client_config,
            "epoch": self.epoch,
            "batch": self.batch,
            "currentModelBase64": _to_base64(self.current_model),
        }
        if self.optimizer_state is not None:
            obj["optimizerStateBase64"] = _to_base64(self.optimizer_state)
        if self.loader_state is not None:
            obj["loaderState"] = self.loader_state
        if self.random_state is not None:
            obj["randomState"] = self.random_state.to_dict()
        if self.measurements is not None:
            obj["measurements"] = self.measurements.to_dict()
        if self.place is not None:
            obj["place"] = self.place.to_dict()
        if self.private_state:
            obj["privateStateBase64"] = part_to_json(self.private_state)
        return obj

    @classmethod
    def from_json(cls, worker: object, obj: Mapping[str, Any] | str | bytes) -> Self:
        """Reads a checkpoint.

        Args:
            worker: the `Syft` client; kept for the reference's sake, not used.
            obj: what `to_json` gave, or its JSON text. Unknown keys are ignored.

        Raises:
            CheckpointError: a key is missing, or holds something wrong.
        """
        del worker
        if isinstance(obj, str | bytes):
            try:
                obj = json.loads(obj)
            except ValueError:
                raise CheckpointError("the checkpoint is not JSON") from None
        if not isinstance(obj, Mapping):
            raise CheckpointError("the checkpoint is not a JSON object")
        optimizer_state = obj.get("optimizerStateBase64")
        random_state = _object(obj, "randomState")
        private_state = obj.get("privateStateBase64")
        measurements, place = _object(obj, "measurements"), _object(obj, "place")
        return cls(
            epochs=_count(obj, "epochs"),
            steps_per_epoch=_count(obj, "stepsPerEpoch", optional=True),
            batch_size=_count(obj, "batchSize", optional=True),
            client_config=_object(obj, "clientConfig") or {},
            epoch=_count(obj, "epoch"),
            batch=_count(obj, "batch"),
            current_model=_from_base64(obj.get("currentModelBase64"), "currentModelBase64"),
            optimizer_state=_from_base64(optimizer_state, "optimizerStateBase64")
            if optimizer_state
            else None,
            loader_state=_object(obj, "loaderState"),
            random_state=None if random_state is None else RandomState.from_dict(random_state),
            private_state={} if private_state is None else _private(private_state),
            measurements=None if measurements is None else Measurements.from_dict(measurements),
            place=None if place is None else Place.from_dict(place),
        )


def check_checkpoint(given: object) -> None:
    """Refuses what is no checkpoint.

    Raises:
        CheckpointError: it is something else.
    """
    if not isinstance(given, PlanTrainerCheckpoint):
        raise CheckpointError(
            f"a checkpoint is a PlanTrainerCheckpoint, not a {type(given).__name__}; its from_json reads one "
            "from JSON"
        )


def _to_base64(model: SyftModel) -> str:
    return base64.b64encode(model.serialize()).decode()


def _from_base64(text: object, key: str) -> SyftModel:
    try:
        data = base64.b64decode("".join(str(text or "-").split()), validate=True)
        return SyftModel.parse(data)
    except (binascii.Error, WireError) as error:
        raise CheckpointError(f"the checkpoint's {key} is not the base64 of a State: {error}") from None


def _private(text: object) -> dict[int, Tensor]:
    try:
        return part_from_json(text)
    except WireError as error:
        raise CheckpointError(f"the checkpoint's privateStateBase64 cannot be read: {error}") from None


def _count(obj: Mapping[str, Any], key: str, *, optional: bool = False) -> Any:
    value = obj.get(key)
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CheckpointError(f"the checkpoint's {key} must be a whole number, not {value!r}")
    return value


def _object(obj: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    value = obj.get(key)
    if value is not None and not isinstance(value, dict):
        raise CheckpointError(f"the checkpoint's {key} must be an object")
    return value
