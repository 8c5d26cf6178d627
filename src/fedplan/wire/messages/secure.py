"""Messages of secure aggregation: they carry bytes of the protocol, which docs/privacy.md describes."""

from typing import Literal

from fedplan.wire.messages.message import Reply, Request
from fedplan.wire.messages.worker import ReportKeys, RequestKey, WorkerId

SecureStage = Literal["keys", "shares", "reports", "unmasking"]
"""A stage in which workers send something."""

SENT_OTHERWISE = "the worker has sent something else at this stage before"
"""How a grid's refusal begins of a message that differs from the one that the worker has sent before."""


class SecureSendKeys(ReportKeys):
    """Whose message of which stage a body of bytes is."""

    stage: SecureStage


class SecureSendRequest(SecureSendKeys):
    """A worker's message of a stage, in base64."""

    message: str


class SecureReceiveRequest(Request):
    """Asks for what the grid sends at the end of a stage."""

    worker_id: WorkerId
    request_key: RequestKey
    stage: SecureStage


class SecureReceived(Reply):
    """What the grid sends at the end of a stage, or when to ask again, or why there is nothing to come."""

    message: str | None = None
    """In base64."""
    retry_after: float | None = None
    """Seconds."""
    failure: str | None = None
    """Why the round has ended without a sum."""
