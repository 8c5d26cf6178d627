"""A worker's place in a cycle, and how it is given back."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from fedplan.errors import CheckpointError, CycleDeclinedError, FedplanError
from fedplan.wire.config import explain
from fedplan.wire.messages import CycleAccepted

_log = logging.getLogger("fedplan.client")

_GIVE_BACK_SECONDS = 5.0
"""How long an error may be held up by giving the place back."""


class Place(BaseModel):
    """A worker's place in a cycle, and what the cycle consists of."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, protected_namespaces=()
    )

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
    task: Literal["training", "evaluation"] = "training"
    """What the worker does there."""

    @classmethod
    def of(cls, worker_id: str, accepted: CycleAccepted) -> Self:
        """The place that a grid has given."""
        told = accepted.model_dump(exclude={"status", "client_config"}, exclude_none=True)
        return cls(worker_id=worker_id, **told)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a checkpoint's JSON, with the request key."""
        return self.model_dump(by_alias=True, exclude_none=True)

    @classmethod
    def from_dict(cls, obj: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` gave.

        Raises:
            CheckpointError: something in it is missing or wrong.
        """
        try:
            return cls.model_validate(dict(obj))
        except ValidationError as error:
            raise CheckpointError(f"the checkpoint's place cannot be read: {explain(error, cls)}") from None

    def __str__(self) -> str:
        which = f"model {self.model_id}" if self.cycle is None else f"cycle {self.cycle}"
        return f"{which} of '{self.model}' {self.version}"

    @property
    def counts_once(self) -> bool:
        """Whether the grid counts a report once that comes twice, as when the answer to it was lost.

        Grids of fedplan do. Nothing in their answer says so but that they take a summary, as no other does.
        """
        return self.summary

    @property
    def of_cycle(self) -> tuple[object, ...]:
        """Tells its cycle from others. Where the grid does not number them, each place counts as another."""
        which = self.request_key if self.cycle is None else self.cycle
        return self.model, self.version, self.model_id, which


def check_cycle(present: Place | None, trained_in: Place | None) -> None:
    """Refuses a training of another cycle: its model is another, so its difference would be wrong.

    Args:
        present: where it is to go on; None outside of a cycle.
        trained_in: where it began; None when the checkpoint does not say it, as a browser's does not.

    Raises:
        CheckpointError: they are not the same cycle.
    """
    if present is None or trained_in is None or present.of_cycle == trained_in.of_cycle:
        return
    raise CheckpointError(
        f"the checkpoint is of a training in {trained_in}, and the job is in {present}, so its difference "
        "would be wrong. Train anew; or `await job.resume(checkpoint)`, while the checkpoint's cycle is open"
    )


@contextlib.asynccontextmanager
async def given_back(decline: Callable[[str], Awaitable[None]]) -> AsyncIterator[None]:
    """Gives a place back that an error of the block, or its cancelling, keeps from being used; that goes on.

    The grid is told what kind of error it was, not its text, which may tell of the data.

    Args:
        decline: gives the place back, for a reason.
    """
    try:
        yield
    except (Exception, asyncio.CancelledError) as error:
        reason = error.reason if isinstance(error, CycleDeclinedError) else type(error).__name__
        try:
            async with asyncio.timeout(_GIVE_BACK_SECONDS):
                await decline(reason)
        except (FedplanError, TimeoutError) as failure:
            _log.debug("the place in the cycle is not given back, and lapses: %s", failure)
        raise
