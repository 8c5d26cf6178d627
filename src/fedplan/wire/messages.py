"""The typed messages of the protocol, as they travel in HTTP bodies and WebSocket envelopes.

Requests are read leniently (unknown keys are ignored: other clients send their own) and answers are
written strictly: KotlinSyft fails on one unknown key, so an answer holds the keys given here and no others.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fedplan.wire.config import STORABLE

AUTHENTICATE = "model-centric/authenticate"
CYCLE_REQUEST = "model-centric/cycle-request"
REPORT = "model-centric/report"
DECLINE = "model-centric/decline"
HOST_TRAINING = "model-centric/host-training"
SOCKET_PING = "socket-ping"

GET_MODEL = "model-centric/get-model"
GET_PLAN = "model-centric/get-plan"
GET_PROTOCOL = "model-centric/get-protocol"
RETRIEVE_MODEL = "model-centric/retrieve-model"
STATUS = "model-centric/status"
EVALUATE = "model-centric/evaluate"
HISTORY = "model-centric/history"
SPEED_TEST = "model-centric/speed-test"

BINARY = "application/octet-stream"
"""Content type of a report whose body is the State's bytes. This project's worker sends it; where a grid does
not know it, the worker falls back to JSON. A grid that knows it says so with each answer to one, also to one
that it refuses: in the header `ACCEPT_POST`."""

ACCEPT_POST = "accept-post"

SPEED_TEST_BYTES = 64 * 1024 * 1024
"""Size of the speed test's download and upload."""

Part = Literal["changing", "frozen"]
"""Of a model: the tensors that a training changes, and the others, which are the same in every cycle."""

Variant = Literal["list", "torchscript", "tfjs"]

PLAN_VARIANTS: tuple[Variant, ...] = ("list", "torchscript", "tfjs")
"""Values of `receive_operations_as`; the first is the default."""


def _text(value: object) -> object:
    """Numbers where a text is expected: some clients send versions and ids as JSON numbers."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


StorableText = Annotated[str, Field(pattern=STORABLE)]

Text = Annotated[StorableText, BeforeValidator(_text)]

Id = Annotated[int, Field(ge=0, lt=2**63)]

EVALUATION_PLAN = "evaluation_plan"
"""Name of the Plan with which workers measure the model as they received it. Clients that cannot tell what
they measured are not given it."""

MOST_NAMES = 100
"""How many Plans, and how many Protocols, a model is hosted with at most."""

WorkerId = Annotated[Text, Field(max_length=1000)]
RequestKey = Annotated[str, Field(max_length=1000)]


class Request(BaseModel):
    """Base of what a client sends."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Reply(BaseModel):
    """Base of what the grid answers."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class AuthenticateRequest(Request):
    """Asks to be a worker for a model."""

    model_name: Text
    model_version: Text | None = None
    auth_token: str | None = None


class AuthenticateReply(Reply):
    """The worker's id, and whether the grid wants its speed."""

    status: Literal["success"] = "success"
    worker_id: Text
    requires_speed_test: bool = False


class CycleRequest(Request):
    """Asks to join the model's cycle. Speeds are absent or negative when they were not measured."""

    worker_id: WorkerId
    model: Text
    version: Text | None = None
    ping: float | None = None
    """Round trip, ms."""
    download: float | None = None
    """Mbit/s from Python and browsers; phones send KB/s or MB/s."""
    upload: float | None = None
    """See `download`; 0 from a browser means "too fast to measure"."""
    receive_operations_as: Variant | None = None
    """The variant of Plans that the client loads; a grid knows it of shipped clients without being told."""
    tell_cycle: bool | None = None
    """Whether the answer shall hold the cycle's number; shipped clients fail on keys they do not know."""
    summary: bool | None = None
    """Whether the worker can tell what `fedplan.wire.Summary` holds, and run an evaluation Plan for it."""
    evaluates: bool | None = None
    """Whether the worker takes a place in which it only measures the model; see `CycleAccepted.task`."""


class CycleAccepted(Reply):
    """The worker is in the cycle and may download what is listed."""

    status: Literal["accepted"] = "accepted"
    model: Text
    version: Text
    request_key: str
    plans: dict[str, int]
    protocols: dict[str, int]
    client_config: dict[str, Any]
    model_id: int
    cycle: int | None = None
    """The cycle's number, 1 being the model's first, for who asked for it."""
    summary: bool | None = None
    """Whether a report may hold a summary; told to who can tell one."""
    task: Literal["evaluation"] | None = None
    """What the place is for, if it is not for training. Then `plans` holds the evaluation Plan alone, and the
    report holds no tensors, and a summary of what was measured; told to who takes such places."""


class CycleRejected(Reply):
    """Not in the cycle. `timeout`: whole seconds to wait; absent when asking again is useless."""

    status: Literal["rejected"] = "rejected"
    timeout: int | None = None


class ReportKeys(Request):
    """Who reports. In the query of a report whose body is the diff itself; see `BINARY`."""

    worker_id: WorkerId
    request_key: RequestKey


class ReportRequest(ReportKeys):
    """The worker's diff: base64 of a State that holds original − trained."""

    diff: str


class DeclineRequest(ReportKeys):
    """Gives a place in a cycle back, with the reason if the worker tells one."""

    reason: Annotated[str, Field(max_length=1000)] | None = None


class Success(Reply):
    """The answer to a report, to a decline and to host-training."""

    status: Literal["success"] = "success"


class HostTrainingRequest(Request):
    """A model to host. Binaries are hex of protobuf: a State, Plans, Protocols."""

    model: str
    plans: dict[str, str] = Field(min_length=1, max_length=MOST_NAMES)
    protocols: dict[str, str] = Field(default_factory=dict, max_length=MOST_NAMES)
    averaging_plan: str | None = None
    client_config: dict[str, Any]
    server_config: dict[str, Any]


class DownloadRequest(Request):
    """Base of what a worker in a cycle sends to download something."""

    worker_id: str
    request_key: str


class ModelRequest(DownloadRequest):
    """Asks for the State that the cycle starts from, or for a part of it.

    A grid that knows of parts sends a State that says which tensors it holds (`State.places`), unless all
    tensors of the model change. Other grids ignore `part` and send the whole.
    """

    model_id: Id
    part: Part | None = None


class PlanRequest(DownloadRequest):
    """Asks for a Plan in one of its variants."""

    plan_id: Id
    receive_operations_as: Variant = "list"


class ProtocolRequest(DownloadRequest):
    """Asks for a Protocol."""

    protocol_id: Id


class RetrieveRequest(Request):
    """Asks for a checkpoint of a model: its number, 1 being the model as hosted, or `latest` or `best`."""

    name: StorableText
    version: StorableText | None = None
    checkpoint: str = "latest"


class CycleStatus(Reply):
    """One cycle, as its model's owner sees it."""

    number: int
    """1 is the model's first cycle."""
    task: Literal["training", "evaluation"] = "training"
    """`evaluation`: its workers only measure the model, and it makes no checkpoint."""
    phase: Literal["open", "closing", "done", "failed"]
    """`closing`: no more reports are taken, the average is being made. `failed`: see `failure`."""
    accepted: int
    """Workers that are in the cycle: those that still train and those that have reported."""
    reported: int
    """Reports received."""
    needed: int
    """Reports without which the cycle is not averaged."""
    limit: int | None = None
    """Reports that close the cycle at once; absent when only time, or the last worker, closes it."""
    opened_at: datetime
    closes_at: datetime | None = None
    """When time closes the cycle; absent without a cycle_length, and once it is closed."""
    closed_at: datetime | None = None
    failure: str | None = None
    """Why the cycle made no checkpoint."""


class CheckpointStatus(Reply):
    """One stored version of a model's parameters."""

    number: int
    """1 is the model as it was hosted."""
    created_at: datetime


class VariantStatus(Reply):
    """One form in which a Plan is served."""

    variant: str
    """`list`, `torchscript` or `tfjs`."""
    error: float | None = None
    """Greatest error against the op list, relative where numbers exceed 1; absent when unknown."""


class PlanStatus(Reply):
    """A hosted Plan."""

    name: str
    variants: list[VariantStatus]


class WithheldStatus(Reply):
    """A kind of client that is rejected, since it cannot train the model."""

    client: str
    """Such as `KotlinSyft`."""
    why: list[str]

    def __str__(self) -> str:
        return f"{self.client}: {'; '.join(self.why)}"


class ModelStatus(Reply):
    """One FL process: a hosted model name and version."""

    name: Text
    version: Text
    phase: Literal["training", "finished"]
    """`finished`: its num_cycles are done; it is trained no more. It may still be measured; see `cycle`."""
    num_cycles: int | None = None
    """Absent when no number of cycles ends the training."""
    stop: str | None = None
    """What may end the training before; absent when nothing does."""
    cycle: CycleStatus
    """The cycle that is open or closing; of a finished model the last one."""
    checkpoints: list[CheckpointStatus]
    """Newest first, the newest 100; `latest` is the first of them."""
    last_failure: str | None = None
    """Why the latest failed cycle, whichever that was, made no checkpoint."""
    failed_cycle: int | None = None
    """Number of that cycle."""
    plans: list[PlanStatus] = Field(default_factory=list)
    """What workers download and run."""
    withheld: list[WithheldStatus] = Field(default_factory=list)
    """Clients that cannot take part."""


class StatusReply(Reply):
    """The answer to status: the models that the grid hosts, by name and version."""

    models: list[ModelStatus]


class MetricStatus(Reply):
    """A metric of a cycle."""

    value: float
    """Its mean over the samples of all workers that told it."""
    weight: float
    """Over how many samples."""
    workers: int
    """How many workers told it."""


class HistoryRow(Reply):
    """A cycle that has ended."""

    cycle: int
    """Its number; 1 is the model's first cycle."""
    task: Literal["training", "evaluation"] = "training"
    """`evaluation`: its workers only measured the checkpoint."""
    checkpoint: int
    """The checkpoint that its workers started from, and that their evaluation measured."""
    phase: Literal["done", "failed"]
    opened_at: datetime
    closed_at: datetime
    workers: int
    """Workers that were in it."""
    reports: int
    """Reports that were averaged."""
    samples: float
    """Samples that the workers told of."""
    metrics: dict[str, MetricStatus]
    """What workers measured of the checkpoint, by name; what they measured while they trained begins with
    `training_`. What the grid measured of the reports is there too."""
    failure: str | None = None
    """Why it made no checkpoint."""


class HistoryReply(Reply):
    """The answer to history: the cycles of a model that have ended, the oldest first."""

    rows: list[HistoryRow]


class HistoryRequest(Request):
    """Asks for what came of a model's cycles."""

    name: StorableText
    version: StorableText | None = None


class EvaluateRequest(Request):
    """Asks for an evaluation of the newest checkpoint of a model whose training is finished."""

    name: StorableText
    version: StorableText | None = None


class EvaluateReply(Reply):
    """The evaluation that is open now."""

    status: Literal["success"] = "success"
    cycle: int
    """The number of its cycle, under which its metrics are in the history."""
    checkpoint: int
    """The checkpoint that workers measure."""


class ErrorReply(Reply):
    """What every refusal looks like."""

    error: str


def dump(reply: Reply) -> dict[str, Any]:
    """A reply as the JSON object that is sent: keys that have no value are left out, never null."""
    sent: dict[str, Any] = _without_nulls(reply.model_dump(exclude_none=True))
    return sent


def _without_nulls(value: Any) -> Any:
    """Without the nulls of nested objects, such as a client_config, which pydantic leaves in."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value
