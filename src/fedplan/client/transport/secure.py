"""The calls of secure aggregation, typed."""

import pybase64
import pydantic

from fedplan.client.transport.exchange import GridRequest, Transport
from fedplan.errors import GridResponseError
from fedplan.wire.messages import (
    SECURE_RECEIVE,
    SECURE_SEND,
    SecureReceived,
    SecureReceiveRequest,
    SecureSendKeys,
    SecureStage,
)


class SecureCalls:
    """Those of one grid. Every call raises GridConnectionError, GridTimeoutError or GridResponseError.

    Args:
        transport: carries them.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def send(self, worker_id: str, request_key: str, stage: SecureStage, message: bytes) -> None:
        """Sends a worker's message of a stage: as these bytes over HTTP, which are the fewest."""
        keys = SecureSendKeys(worker_id=worker_id, request_key=request_key, stage=stage)
        await self._transport.send(GridRequest(SECURE_SEND, keys.model_dump(), body=message, idempotent=True))

    async def receive(self, worker_id: str, request_key: str, stage: SecureStage) -> SecureReceived:
        """Asks once for what the grid sends at the end of a stage."""
        request = SecureReceiveRequest(worker_id=worker_id, request_key=request_key, stage=stage)
        answer = await self._transport.send(
            GridRequest(SECURE_RECEIVE, request.model_dump(), idempotent=True)
        )
        try:
            return SecureReceived.model_validate(answer.data)
        except pydantic.ValidationError:
            raise GridResponseError(f"the grid's answer to {SECURE_RECEIVE} is not understood") from None


def bytes_of(text: str) -> bytes:
    """A message of the grid, from its base64.

    Raises:
        GridResponseError: it is none.
    """
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        raise GridResponseError(f"the grid's answer to {SECURE_RECEIVE} holds no base64") from None
