"""Messages of workers: who they are, their place in a cycle, what they download and report."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fedplan.wire.messages.message import Reply, Request, Text, Variant

BINARY = "application/octet-stream"
"""Content type of a report whose body is the State's bytes. This project's worker sends it; where a grid does
not know it, the worker falls back to JSON. A grid that knows it says so with each answer to one, also to one
that it refuses: in the header `ACCEPT_POST`."""

ACCEPT_POST = "accept-post"

SPEED_TEST_BYTES = 64 * 1024 * 1024
"""Size of the speed test's download and upload."""

Part = Literal["changing", "frozen"]
"""Of a model: the tensors that a training changes, and the others, which are the same in every cycle."""

Id = Annotated[int, Field(ge=0, lt=2**63)]


def _or_none(protocols: object) -> object:
    """No Protocols, where a grid says that with null or an empty list."""
    return protocols or {}


WorkerId = Annotated[Text, Field(max_length=1000)]

RequestKey = Annotated[str, Field(max_length=1000)]


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
    secure_aggregation: bool | None = None
    """Whether the worker can report by secure aggregation; else it is not taken where that is asked for."""
    evaluates: bool | None = None
    """Whether the worker takes a place in which it only measures the model; see `CycleAccepted.task`."""


class CycleAccepted(Reply):
    """The worker is in the cycle and may download what is listed."""

    status: Literal["accepted"] = "accepted"
    model: Text
    version: Text
    request_key: str
    plans: dict[str, int]
    protocols: Annotated[dict[str, int], BeforeValidator(_or_none)] = Field(default_factory=dict)
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
    reason: str | None = None
    """Why, for who asks for the cycle's number too; others fail on a key that they do not know."""


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
