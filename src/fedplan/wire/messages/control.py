"""Messages with which a model's owner controls it while it is hosted."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, model_validator

from fedplan.wire.amounts import Count, Duration
from fedplan.wire.messages.message import Reply, Request, Text


class ModelRequestOfOwner(Request):
    """Base of what is about one hosted model. Both names are needed: nothing is stopped by mistake."""

    name: Text
    version: Text


class PauseRequest(ModelRequestOfOwner):
    """Lets no new worker join, and no time pass for the open cycle, until the model is resumed."""


class ResumeRequest(ModelRequestOfOwner):
    """Takes a pause back."""


class StopRequest(ModelRequestOfOwner):
    """Ends the training now."""


class StopReply(Reply):
    """The training ends, or has ended already."""

    status: Literal["success"] = "success"
    cycle: int
    """The last cycle."""
    dropped: str | None = None
    """Why that cycle makes no checkpoint; absent when it does, or had ended."""


class ExtendRequest(ModelRequestOfOwner):
    """Asks for more cycles, for more time for the open one, or for both."""

    cycles: Count | None = None
    """So many more."""
    seconds: Duration | None = None
    """So much later time closes the open cycle."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> "ExtendRequest":
        if self.cycles is None and self.seconds is None:
            raise ValueError("it needs a number of cycles, or seconds for the open one, or both")
        return self


class ExtendReply(Reply):
    """What the model has now."""

    status: Literal["success"] = "success"
    num_cycles: int | None = None
    """The number of its last cycle; absent when it is trained without end."""
    closes_at: datetime | None = None
    """When time closes the open cycle; absent when it does not, also while the model is paused."""


class SetRequest(ModelRequestOfOwner):
    """Changes some keys of the two configurations, from the next cycle on. A null takes a key away."""

    server_config: dict[str, Any] = Field(default_factory=dict)
    client_config: dict[str, Any] = Field(default_factory=dict)


class SetReply(Reply):
    """The keys are changed."""

    status: Literal["success"] = "success"
    cycle: int
    """The number of the first cycle for which that holds."""


class DeleteRequest(ModelRequestOfOwner):
    """Deletes a model with all that belongs to it."""

    force: bool = False
    """Also while a cycle is under way, whose reports are lost."""


class CheckpointsRequest(ModelRequestOfOwner):
    """Asks for all checkpoints of a model."""


class CheckpointRow(Reply):
    """A checkpoint as its model's owner sees it."""

    number: int
    """1 is the model as it was hosted. No number is used twice."""
    created_at: datetime
    cycle: int | None = None
    """The cycle that made it; absent for the model as hosted, and for a copy."""
    source: int | None = None
    """The checkpoint of which it is a copy, if it is one."""
    dropped: bool | None = None
    """True when the owner went back to before it."""
    deleted: bool | None = None
    """True when it was not to be kept (`keep_checkpoints`), and is not there any more."""
    aliases: list[Literal["latest", "best"]] = Field(default_factory=list)
    """Under which names it is to be had beside its number."""


class CheckpointsReply(Reply):
    """The checkpoints of a model, the newest first."""

    checkpoints: list[CheckpointRow]


class PromoteRequest(ModelRequestOfOwner):
    """Makes a copy of a checkpoint, and of what the strategy remembered at it, the newest checkpoint."""

    checkpoint: Count


class RollBackRequest(PromoteRequest):
    """As `PromoteRequest`, and drops the checkpoints that came after it."""


class PromoteReply(Reply):
    """The newest checkpoint now."""

    status: Literal["success"] = "success"
    checkpoint: int
    """Its number."""
    cycle: int | None = None
    """The cycle that starts from it; absent when the model is trained no more."""
