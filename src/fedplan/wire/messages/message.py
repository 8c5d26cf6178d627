"""What all messages have in common: their names, their texts, and how an answer is written."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fedplan.wire.config import STORABLE

AUTHENTICATE = "model-centric/authenticate"
CYCLE_REQUEST = "model-centric/cycle-request"
REPORT = "model-centric/report"
DECLINE = "model-centric/decline"
SECURE_SEND = "model-centric/secure-send"
SECURE_RECEIVE = "model-centric/secure-receive"
HOST_TRAINING = "model-centric/host-training"
SOCKET_PING = "socket-ping"

GET_MODEL = "model-centric/get-model"
GET_PLAN = "model-centric/get-plan"
GET_PROTOCOL = "model-centric/get-protocol"
RETRIEVE_MODEL = "model-centric/retrieve-model"
RETRIEVE_PLAN = "model-centric/retrieve-plan"
STATUS = "model-centric/status"
EVALUATE = "model-centric/evaluate"
HISTORY = "model-centric/history"
EVENTS = "model-centric/events"
WHY = "model-centric/why"
SPEED_TEST = "model-centric/speed-test"

PAUSE = "model-centric/pause"
RESUME = "model-centric/resume"
STOP = "model-centric/stop"
EXTEND = "model-centric/extend"
SET = "model-centric/set"
DELETE = "model-centric/delete"
CHECKPOINTS = "model-centric/checkpoints"
PROMOTE = "model-centric/promote"
ROLL_BACK = "model-centric/roll-back"

Variant = Literal["list", "torchscript", "tfjs"]

PLAN_VARIANTS: tuple[Variant, ...] = ("list", "torchscript", "tfjs")
"""Values of `receive_operations_as`; the first is the default."""


def _text(value: object) -> object:
    """Numbers where a text is expected: some clients send versions and ids as JSON numbers."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


StorableText = Annotated[str, Field(pattern=STORABLE)]

Text = Annotated[StorableText, BeforeValidator(_text)]

EVALUATION_PLAN = "evaluation_plan"
"""Name of the Plan with which workers measure the model as they received it. Clients that cannot tell what
they measured are not given it."""


class Request(BaseModel):
    """Base of what a client sends."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Reply(BaseModel):
    """Base of what the grid answers."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Success(Reply):
    """The answer to a call that has nothing else to tell."""

    status: Literal["success"] = "success"


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
