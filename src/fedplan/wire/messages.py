"""The typed messages of the protocol, as they travel in HTTP bodies and WebSocket envelopes.

Requests are read leniently (unknown keys are ignored: other clients send their own) and answers are
written strictly: KotlinSyft fails on one unknown key, so an answer holds the keys given here and no others.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

AUTHENTICATE = "model-centric/authenticate"
CYCLE_REQUEST = "model-centric/cycle-request"
REPORT = "model-centric/report"
HOST_TRAINING = "model-centric/host-training"
SOCKET_PING = "socket-ping"

GET_MODEL = "model-centric/get-model"
GET_PLAN = "model-centric/get-plan"
GET_PROTOCOL = "model-centric/get-protocol"
RETRIEVE_MODEL = "model-centric/retrieve-model"
SPEED_TEST = "model-centric/speed-test"

SPEED_TEST_BYTES = 64 * 1024 * 1024
"""Size of the speed test's download and upload."""

PLAN_VARIANTS = ("list", "torchscript", "tfjs")
"""Values of `receive_operations_as`; the first is the default."""


def _text(value: object) -> object:
    """Numbers where a text is expected: some clients send versions and ids as JSON numbers."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_text)]


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

    worker_id: Text
    model: Text
    version: Text | None = None
    ping: float | None = None
    """Round trip, ms."""
    download: float | None = None
    """Mbit/s from Python and browsers; phones send KB/s or MB/s."""
    upload: float | None = None
    """See `download`; 0 from a browser means "too fast to measure"."""


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


class CycleRejected(Reply):
    """Not in the cycle. `timeout`: whole seconds to wait; absent when asking again is useless."""

    status: Literal["rejected"] = "rejected"
    timeout: int | None = None


class ReportRequest(Request):
    """The worker's diff: base64 of a State that holds original − trained."""

    worker_id: Text
    request_key: str
    diff: str


class Success(Reply):
    """The answer to a report and to host-training."""

    status: Literal["success"] = "success"


class HostTrainingRequest(Request):
    """A model to host. Binaries are hex of protobuf: a State, Plans, Protocols."""

    model: str
    plans: dict[str, str] = Field(min_length=1)
    protocols: dict[str, str] = Field(default_factory=dict)
    averaging_plan: str | None = None
    client_config: dict[str, Any]
    server_config: dict[str, Any]


class ErrorReply(Reply):
    """What every refusal looks like."""

    error: str


class Envelope(Request):
    """A WebSocket message. The answer carries the same `type` and, when one came, the same `request_id`."""

    type: str
    data: dict[str, Any] = Field(default_factory=dict)
    request_id: str | int | None = None


def dump(reply: Reply) -> dict[str, Any]:
    """A reply as the JSON object that is sent: keys that have no value are left out, never null."""
    return reply.model_dump(exclude_none=True)
