"""What the model owner's client can do with a model that is hosted."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedplan.client.loops.blocking import blocking_twin
from fedplan.client.plain import plain_config
from fedplan.client.transport.api import message_of
from fedplan.client.transport.connection import GridConnection
from fedplan.wire import messages
from fedplan.wire.messages import (
    CheckpointRow,
    CheckpointsReply,
    ExtendReply,
    PromoteReply,
    SetReply,
    StopReply,
    Success,
)


class ModelControl(GridConnection):
    """Pausing, stopping, extending, changing and deleting hosted models, and choosing their checkpoints.

    Each call raises a GridResponseError if the grid refuses, which says why, or knows no such model; and a
    GridConnectionError if it could not be reached. Calls that change nothing when they are made again are
    repeated after a failure as `retry` says; `extend` is not.
    """

    async def pause_async(self, name: str, version: str) -> None:
        """Lets no new worker join a model, until it is resumed.

        Workers that are in its open cycle may still report. The cycle closes when it has the reports that it
        needs, but not by time, and none of its places lapses.

        Args:
            name: name of the FL process.
            version: its version.
        """
        request = message_of(messages.PauseRequest, name=name, version=version)
        await self._grid.control(messages.PAUSE, request, Success)

    async def resume_async(self, name: str, version: str) -> None:
        """Takes a pause back. What is bounded by time has as much of it left as when the pause began.

        Args:
            name: name of the FL process.
            version: its version.
        """
        request = message_of(messages.ResumeRequest, name=name, version=version)
        await self._grid.control(messages.RESUME, request, Success)

    async def stop_async(self, name: str, version: str) -> StopReply:
        """Ends the training of a model now; `extend` lets it go on.

        The open cycle closes with the reports that it has, if they are enough for a checkpoint (`min_diffs`);
        else it is dropped. The evaluation of the last checkpoint follows, if an evaluation Plan is hosted.

        Args:
            name: name of the FL process.
            version: its version.

        Returns:
            `cycle`, the number of the last cycle, and `dropped`: why it makes no checkpoint, or None.
        """
        request = message_of(messages.StopRequest, name=name, version=version)
        return await self._grid.control(messages.STOP, request, StopReply)

    async def extend_async(
        self, name: str, version: str, *, cycles: int | None = None, seconds: float | None = None
    ) -> ExtendReply:
        """Gives a model more cycles, also one whose training has ended, and its open cycle more time.

        Args:
            name: name of the FL process.
            version: its version.
            cycles: how many cycles of training more: after the last one, or after that in which it was
                stopped.
            seconds: by how much later time closes the open cycle.

        Returns:
            `num_cycles` as it is then, and `closes_at`, when time closes the open cycle; None where it does
            not.

        Raises:
            ConfigError: neither is given, or one is no positive number.
        """
        request = message_of(
            messages.ExtendRequest, name=name, version=version, cycles=cycles, seconds=seconds
        )
        return await self._grid.control(messages.EXTEND, request, ExtendReply, again=False)

    async def set_configs_async(
        self,
        name: str,
        version: str,
        *,
        server_config: Mapping[str, Any] | None = None,
        client_config: Mapping[str, Any] | None = None,
    ) -> int:
        """Changes keys of a model's configurations, from the next cycle on; all others stay.

        The grid checks what comes of it as it does at hosting. It refuses keys that make another model:
        `strategy`, `iterative_plan`, `privacy`, `authentication`, `name` and `version`.

        Args:
            name: name of the FL process.
            version: its version.
            server_config: the keys to change, with their new values; None takes a key away.
            client_config: so too.

        Returns:
            The number of the first cycle that runs with them. `public`, `best`, `stop`, `num_cycles`,
            `keep_checkpoints` and `keep_diffs` hold at once.

        Raises:
            ConfigError: a configuration is no mapping.
        """
        request = message_of(
            messages.SetRequest,
            name=name,
            version=version,
            server_config=plain_config(server_config or {}, "server_config"),
            client_config=plain_config(client_config or {}, "client_config"),
        )
        return (await self._grid.control(messages.SET, request, SetReply)).cycle

    async def delete_async(self, name: str, version: str, *, force: bool = False) -> None:
        """Deletes a model with its checkpoints, Plans, cycles and reports; it cannot be had back.

        Its name and version may be hosted again.

        Args:
            name: name of the FL process.
            version: its version.
            force: also while a cycle is under way, whose reports are lost.
        """
        request = message_of(messages.DeleteRequest, name=name, version=version, force=force)
        await self._grid.control(messages.DELETE, request, Success, again=False)

    async def checkpoints_async(self, name: str, version: str) -> Sequence[CheckpointRow]:
        """Asks for all checkpoints of a model, the newest first.

        Args:
            name: name of the FL process.
            version: its version.

        Returns:
            Of each its `number`, `created_at`, `aliases` (`latest`, `best`), and where they apply the `cycle`
            that made it, the `source` of which it is a copy, `dropped` and `deleted`.
        """
        found = await self._grid.look(messages.CHECKPOINTS, CheckpointsReply, name=name, version=str(version))
        return found.checkpoints

    async def promote_async(self, name: str, version: str, checkpoint: int) -> PromoteReply:
        """Makes a checkpoint the newest one: a copy of it, with what the strategy remembered at it.

        The training goes on from the copy. The cycle that is under way is dropped, with its reports.

        Args:
            name: name of the FL process.
            version: its version.
            checkpoint: its number.

        Returns:
            `checkpoint`, the number of the copy, and `cycle`, that of the cycle that starts from it, or None.
        """
        request = message_of(messages.PromoteRequest, name=name, version=version, checkpoint=checkpoint)
        return await self._grid.control(messages.PROMOTE, request, PromoteReply)

    async def roll_back_async(self, name: str, version: str, checkpoint: int) -> PromoteReply:
        """As `promote`, and drops the checkpoints that came after that one: they are not to be had any more.

        Args:
            name: name of the FL process.
            version: its version.
            checkpoint: the number of the one to go back to.

        Returns:
            See `promote`.
        """
        request = message_of(messages.RollBackRequest, name=name, version=version, checkpoint=checkpoint)
        return await self._grid.control(messages.ROLL_BACK, request, PromoteReply)

    pause = blocking_twin(pause_async)
    resume = blocking_twin(resume_async)
    stop = blocking_twin(stop_async)
    extend = blocking_twin(extend_async)
    set_configs = blocking_twin(set_configs_async)
    delete = blocking_twin(delete_async)
    checkpoints = blocking_twin(checkpoints_async)
    promote = blocking_twin(promote_async)
    roll_back = blocking_twin(roll_back_async)
