"""The two configurations of an FL process, checked key by key.

The `client_config` goes to workers as the model owner wrote it; the `server_config` says how the grid runs
its cycles. An unknown key of the server_config is an error: the grid would ignore it, and the owner would not
notice. Numbers must be numbers of JSON, not texts such as "10": phones cannot read these as numbers.
"""

import json
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from fedplan.errors import ConfigError
from fedplan.text import nearest
from fedplan.wire.amounts import Count, Length, Number
from fedplan.wire.authentication import AuthenticationConfig, Text
from fedplan.wire.secure import SecureAggregationConfig

STORABLE = r"^[^\x00]*$"
"""Texts that every database can hold."""

_FAULTS_TOLD = 10

_C = TypeVar("_C", bound=BaseModel)
MOST_CHARACTERS = 200
"""Of the name or the version of a model, and of the name of a Plan or a Protocol."""


def printable(name: str) -> str:
    """A name, if it holds nothing that is not printed: it stands in logs, pages and terminals.

    Raises:
        ValueError: it does, such as a line break.
    """
    if not name.isprintable():
        found = next(character for character in name if not character.isprintable())
        raise ValueError(f"it holds U+{ord(found):04X}, which is not printed; choose a name without it")
    return name


Name = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS), AfterValidator(printable)]
Speed = Annotated[Number, Field(ge=0)]


class ClientConfig(BaseModel):
    """What a worker is told about the training.

    Keys beyond the ones named here are the model owner's own; Plans read them by name
    (`PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM`).
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: Name
    """Name of the FL process."""
    version: Name
    """Version of the FL process."""
    batch_size: Count | None = None
    """Samples in a batch."""
    lr: Number | None = None
    """Learning rate."""
    max_updates: Count | None = None
    """Most batches that a worker trains on in an epoch."""
    max_epochs: Count | None = None
    """Epochs that a worker trains; 1 when absent."""

    @property
    def extra(self) -> dict[str, Any]:
        """The model owner's own keys."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _is_json(self) -> Self:
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"it holds what is not JSON: {error}") from None
        return self


class Goal(BaseModel):
    """A metric, and which values of it are good."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    metric: Text
    """Its name, as it stands in the model's history."""
    mode: Literal["max", "min"]
    """Whether more of it is better, or less."""


class Stop(Goal):
    """When the training ends before its last cycle."""

    value: Number | None = None
    """As soon as a checkpoint is as good as this."""
    patience: Count | None = None
    """As soon as so many checkpoints in succession are no better than an earlier one."""

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.value is None and self.patience is None:
            raise ValueError("it needs a value, a patience, or both")
        return self


class EvaluationConfig(BaseModel):
    """Who measures a model without training it; those who train it measure it too."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the workers that a cycle takes, so many only measure the model."""
    reports: Count | None = None
    """Reports that end the evaluation after the last cycle; when absent, as many as close a cycle."""
    length: Length | None = None
    """Seconds after which that evaluation ends by itself; when absent a cycle_length, or an hour."""


class PrivacyConfig(BaseModel):
    """Differential privacy of the workers: the grid clips each report, and adds noise to their sum."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    mechanism: Literal["central"] = "central"
    """`central`: the grid sees the reports, and adds the noise."""
    clip: Annotated[Number, Field(ge=1e-12, le=1e12)]
    """No report has a larger norm: it is scaled down to this one."""
    noise_multiplier: Annotated[Number, Field(ge=1e-3, le=1e3)]
    """The standard deviation of the noise on each number of the sum, over `clip`."""
    cohort: Annotated[int, Field(ge=1, le=2**20)]
    """By what the sum is divided, however many reports come: as many as a cycle is expected to have."""
    delta: Annotated[Number, Field(gt=0, lt=1)]
    """The δ of the ε that is spent: well below one over the number of workers there are."""
    max_epsilon: Annotated[Number, Field(gt=0)] | None = None
    """A cycle that would make the model's ε larger does not open; no bound when absent."""
    clipping: Literal["fixed", "per_layer"] = "fixed"
    """`fixed`: the norm of all tensors together. `per_layer`: each tensor to clip / √(number of tensors)."""


PRIVACY_KEY = "privacy"
"""Key of the client_config under which the grid tells workers of its differential privacy."""


class ToldPrivacy(BaseModel):
    """What a grid says of the differential privacy of a cycle. A worker cannot check it; see `JobPrivacy`."""

    model_config = ConfigDict(frozen=True)

    mechanism: str
    """What adds the noise, and where: `central`, in the grid, which sees the reports."""
    clip: Annotated[Number, Field(gt=0)]
    """The largest norm of a report; the worker keeps to it by itself too."""
    clipping: Literal["fixed", "per_layer"]
    """See `PrivacyConfig`."""
    noise_multiplier: Annotated[Number, Field(gt=0)]
    """The standard deviation of the noise on each number of the sum, over `clip`."""
    cohort: Count
    """By what the sum is divided."""
    delta: Annotated[Number, Field(gt=0, lt=1)]
    """The δ of `epsilon`."""
    epsilon: Annotated[Number, Field(ge=0)]
    """Of all cycles up to this one, this one included, for a worker that takes part in each."""
    max_epsilon: Annotated[Number, Field(gt=0)] | None = None
    """What the model's ε will not exceed; None when nothing bounds it."""


class CheckpointsKept(BaseModel):
    """Which checkpoints of a model are kept; what is still needed stays in any case."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    last: Count = 1
    """So many of the newest."""
    every: Count | None = None
    """Those whose numbers are multiples of this."""
    best: Literal[True] | None = None
    """The best one. It stays wherever `best` of the server_config says which that is."""


def _kept(value: Any) -> CheckpointsKept | None:
    """What `keep_checkpoints` says; None for all.

    Raises:
        ValueError: it says nothing that is known.
    """
    if value == "all":
        return None
    try:
        return CheckpointsKept.model_validate(value if isinstance(value, dict) else {"last": value})
    except ValidationError as error:
        raise ValueError(
            'it is "all", how many of the newest are kept, or an object with last, every and best: '
            + explain(error, CheckpointsKept)
        ) from None


def _checked_kept(value: Any) -> Any:
    _kept(value)
    return value


def _named_strategy(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """What `strategy` says, if it may say one.

    Raises:
        ValueError: it is neither a name nor an object.
    """
    try:
        return read(value)
    except ValidationError:
        raise ValueError(
            "it is the name of a strategy, such as \"fedavg\", or an object with its 'name' and settings, "
            'such as {"name": "fedavgm", "momentum": 0.9}; docs/strategies.md has the names'
        ) from None


class ServerConfig(BaseModel):
    """How the grid runs the cycles of an FL process. Every key is enforced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    min_workers: Count | None = None
    """Workers that must have asked before the cycle takes any."""
    max_workers: Count | None = None
    """Most workers in one cycle."""
    pool_selection: Literal["random", "iterate"] = "random"
    """`iterate`: workers are taken as they ask. `random`: by lot, once more ask than the cycle takes."""
    num_cycles: Count | None = None
    """Cycles after which the model is finished; endless when absent."""
    do_not_reuse_workers_until_cycle: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """A worker that took part may take part again only this many cycles later."""
    most_cycles_per_day: Count | None = None
    """In how many cycles of the model a worker may take part within 24 hours."""
    cycle_length: Length | None = None
    """Seconds after which a cycle closes by itself; open-ended when absent."""
    place_timeout: Length = 86_400.0
    """Seconds after which a worker that has not reported loses its place; a day when absent."""
    min_diffs: Count | None = None
    """Reports that a cycle needs to be averaged."""
    max_diffs: Count | None = None
    """Reports that close a cycle at once."""
    over_selection: Annotated[Number, Field(ge=1, le=10)] | None = None
    """So many times `max_diffs` workers are taken at most, the more the more of them dropped out before."""
    minimum_upload_speed: Speed | None = None
    """Mbit/s that a worker must reach; a speed test is asked for when this is set."""
    minimum_download_speed: Speed | None = None
    """Mbit/s that a worker must reach; a speed test is asked for when this is set."""
    iterative_plan: bool = False
    """The averaging plan runs once a diff, with (average so far, diff, number), not once with all diffs."""
    strategy: Annotated[Text | dict[str, Any] | None, WrapValidator(_named_strategy)] = None
    """How reports change the model: a name, or a name with settings; FedAvg when absent."""
    weighting: Literal["samples", "uniform"] = "samples"
    """What a report counts in an average: as many as its samples, or the same as all others."""
    untold_weight: Annotated[Number, Field(gt=0)] | None = None
    """What a report counts that tells no samples; when absent, the mean of those of its cycle that tell."""
    max_weight: Annotated[Number, Field(gt=0)] | None = None
    """No report counts more."""
    max_norm: Annotated[Number, Field(gt=0)] | None = None
    """A report with a larger norm is refused; when absent, 1,000 × the model's, and 1,000 at least."""
    metrics: list[Text] = Field(default_factory=list)
    """What the grid itself measures of each report."""
    best: Goal | None = None
    """Which checkpoint is to be had under the name `best`."""
    stop: Stop | None = None
    """When the training ends before its last cycle."""
    evaluation: EvaluationConfig | None = None
    """Needs an evaluation Plan. Also without this, the last checkpoint is measured after the last cycle."""
    public: bool = False
    """Whether everybody may have its checkpoints, also on a grid with an owner token."""
    report_formats: list[Literal["float16", "int8", "topk"]] = Field(default_factory=list)
    """In what workers may report besides float32, the preferred form first."""
    keep_checkpoints: Annotated[str | int | dict[str, Any], PlainValidator(_checked_kept)] = "all"
    """Which checkpoints are kept: all, so many of the newest, or as `CheckpointsKept` says."""
    keep_diffs: bool | Count | None = None
    """Whether reports are kept after their cycle, or of how many cycles; when absent, as the grid does."""
    authentication: AuthenticationConfig | None = None
    """What workers must show, tokens or certificates; anybody may train when absent."""
    secure_aggregation: SecureAggregationConfig | None = None
    """Whether the grid learns only the sum of its workers' reports, and none of them."""

    @property
    def places(self) -> int | None:
        """Most workers that a cycle takes; None for no bound."""
        return self.max_workers if self.secure_aggregation is None else self.secure_aggregation.workers

    privacy: PrivacyConfig | None = None
    """Differential privacy of what is released; none when absent."""

    @property
    def kept(self) -> CheckpointsKept | None:
        """Which checkpoints are kept; None for all."""
        return _kept(self.keep_checkpoints)

    @model_validator(mode="after")
    def _best_is_known(self) -> Self:
        if self.kept is not None and self.kept.best and self.best is None:
            raise ValueError("keep_checkpoints keeps the best one, and 'best' does not say which that is")
        return self

    @model_validator(mode="after")
    def _orders(self) -> Self:
        for low, high in (
            ("min_workers", "max_workers"),
            ("min_diffs", "max_diffs"),
            ("min_diffs", "max_workers"),
        ):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low} ({least}) is more than {high} ({most})")
        if self.over_selection is not None and self.max_diffs is None:
            raise ValueError("over_selection is a multiple of max_diffs, which is to be set too")
        return self


def parse_client_config(raw: object) -> ClientConfig:
    """Checks a client_config.

    Raises:
        ConfigError: names each wrong key, and why it is wrong.
    """
    return _parse(ClientConfig, raw, "client_config")


def parse_server_config(raw: object) -> ServerConfig:
    """Checks a server_config; an unknown key is an error.

    Raises:
        ConfigError: names each wrong key, and why it is wrong.
    """
    return _parse(ServerConfig, raw, "server_config")


def _parse(kind: type[_C], raw: object, name: str) -> _C:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{name}: {explain(error, kind)}") from None


def explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """A validation error in one line that never repeats the values (they may be secrets)."""
    parts = []
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    for item in faults[:_FAULTS_TOLD]:
        where, message = ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = list(_model_at(kind, item["loc"][:-1]).model_fields)
            near = nearest(str(item["loc"][-1]), known)
            advice = "" if near is None else f"; did you mean '{near}'?"
            parts.append(f"'{where}' is not a key of it; the keys are {', '.join(known)}{advice}")
        else:
            parts.append(f"'{where}': {message}" if where else message)
    if len(faults) > _FAULTS_TOLD:
        parts.append(f"and {len(faults) - _FAULTS_TOLD} more")
    return "; ".join(parts)


def _model_at(kind: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    """The model of the object that stands at `path` in a `kind`."""
    for step in path:
        annotation = kind.model_fields[str(step)].annotation
        kind = next(a for a in (annotation, *get_args(annotation)) if isinstance(a, type))
    return kind
