"""A worker's place in a cycle, and how it is given back."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from fedplan.errors import CycleDeclinedError, FedplanError
from fedplan.wire.messages import CycleAccepted

_log = logging.getLogger("fedplan.client")

_GIVE_BACK_SECONDS = 5.0
"""How long an error may be held up by giving the place back."""


class Place(BaseModel):
    """A worker's place in a cycle, and what the cycle consists of."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model: str
    """Name of the FL process."""
    version: str
    """Its version."""
    worker_id: str
    """What the grid calls the worker."""
    request_key: str = Field(repr=False)
    """Who has it may download and report in the worker's place."""
    model_id: int
    """The checkpoint from which the cycle starts."""
    plans: dict[str, int]
    """Ids of the Plans, by name."""
    protocols: dict[str, int]
    """Ids of the Protocols, by name."""
    cycle: int | None = None
    """Number of the cycle, if the grid tells it."""
    summary: bool = False
    """Whether the grid takes a summary with the report."""

    @classmethod
    def of(cls, worker_id: str, accepted: CycleAccepted) -> Self:
        """The place that a grid has given."""
        told = accepted.model_dump(exclude={"status", "client_config"}, exclude_none=True)
        return cls(worker_id=worker_id, **told)


@contextlib.asynccontextmanager
async def given_back(
    decline: Callable[[str], Awaitable[None]], *errors: type[BaseException]
) -> AsyncIterator[None]:
    """Gives a place back that an error of the block keeps from being used. The error goes on.

    The grid is told what kind of error it was, not its text, which may tell of the data.

    Args:
        decline: gives the place back, for a reason.
        errors: which errors give it back besides every `Exception`.
    """
    causes: tuple[type[BaseException], ...] = (Exception, *errors)
    try:
        yield
    except causes as error:
        reason = error.reason if isinstance(error, CycleDeclinedError) else type(error).__name__
        try:
            async with asyncio.timeout(_GIVE_BACK_SECONDS):
                await decline(reason)
        except (FedplanError, TimeoutError) as failure:
            _log.debug("the place in the cycle is not given back, and lapses: %s", failure)
        raise
