"""How a worker comes into a cycle: it becomes one, asks, and downloads what the cycle needs."""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from fedplan.client.cycle.parts import whole_model
from fedplan.client.cycle.place import Place
from fedplan.client.events import Rejected
from fedplan.client.model import SyftModel
from fedplan.client.transport.api import GridApi
from fedplan.client.transport.exchange import passes
from fedplan.client.transport.speed import ConnectionSpeed
from fedplan.errors import CycleRejectedError, GridResponseError, WireError
from fedplan.federation.secure import digest_of_bytes
from fedplan.federation.secure.cycles import PROTOCOL_NAME
from fedplan.plan import Limits, Plan
from fedplan.plan.roles import check_roles
from fedplan.wire import schema
from fedplan.wire.messages import PLAN_VARIANTS, CycleAccepted

_log = logging.getLogger("fedplan.client")
_T = TypeVar("_T")


class Joining:
    """Asks a grid for places in the cycles of one model, always as the same worker.

    Attributes:
        worker_id: what the grid calls the worker; None before the first request.
    """

    def __init__(
        self, grid: GridApi, name: str, version: str, auth_token: str | None, *, evaluates: bool
    ) -> None:
        """See `Syft.new_job`."""
        self.worker_id: str | None = None
        self._grid = grid
        self._name = name
        self._version = version
        self._auth_token = auth_token
        self._evaluates = evaluates
        self._speed: ConnectionSpeed | None = None

    async def ask(self) -> tuple[str, CycleAccepted | Rejected]:
        """Asks to join the cycle, as the worker that this one was before, if the grid still knows it."""
        if self.worker_id is not None:
            try:
                return self.worker_id, await self._ask_as(self.worker_id)
            except GridResponseError as error:
                if passes(error):
                    raise
                _log.info("the grid takes this worker no more (%s): becoming another", error)
        worker_id = await self._authenticate()
        return worker_id, await self._ask_as(worker_id)

    async def _ask_as(self, worker_id: str) -> CycleAccepted | Rejected:
        return await self._grid.request_cycle(
            worker_id, self._name, self._version, self._speed, evaluates=self._evaluates
        )

    async def _authenticate(self) -> str:
        """Becomes a worker, with a measured connection if the grid wants that; returns the worker's id."""
        reply = await self._grid.authenticate(self._name, self._version, self._auth_token)
        if reply.requires_speed_test:
            self._speed = await self._grid.measure_speed(reply.worker_id)
            _log.info("the connection makes %s", self._speed)
        self.worker_id = reply.worker_id
        return reply.worker_id


@dataclasses.dataclass(frozen=True, slots=True)
class Downloaded:
    """What a cycle consists of, as it came.

    Attributes:
        plans: by name.
        protocols: by name.
        model: as the grid has it, without what the worker keeps for itself.
        digests: of the Plans' bytes, by ``name/variant``.
    """

    plans: Mapping[str, Plan]
    protocols: Mapping[str, schema.Protocol]
    model: SyftModel
    digests: Mapping[str, bytes]


async def download(grid: GridApi, place: Place, limits: Limits) -> Downloaded:
    """Downloads the model, the Plans and the Protocols of a cycle.

    Args:
        grid: the grid.
        place: in the cycle.
        limits: of what the Plans may take.

    Raises:
        FedplanError: something could not be had, or is damaged.
    """
    worker_id, key = place.worker_id, place.request_key
    changing, plans, protocols = await asyncio.gather(
        grid.get_model(worker_id, key, place.model_id, "changing"),
        _each(place.plans, lambda id: grid.get_plan(worker_id, key, id)),
        _each(place.protocols, lambda id: _protocol(grid, place, id)),
    )
    model = await whole_model(grid, place, changing)
    return Downloaded(
        {name: _checked(data, limits) for name, data in plans.items()},
        {name: protocol for name, protocol in protocols.items() if protocol is not None},
        model,
        {f"{name}/{PLAN_VARIANTS[0]}": digest_of_bytes(data) for name, data in plans.items()},
    )


def _checked(data: bytes, limits: Limits) -> Plan:
    """A Plan whose roles are true: a grid may have hosted it without looking."""
    plan = Plan.parse(data, limits)
    check_roles(plan)
    return plan


async def _protocol(grid: GridApi, place: Place, id: int) -> schema.Protocol | None:
    """A Protocol; None when the grid has it and cannot send it.

    A PyGrid node lists Protocols, and answers each request for one with an error of its own. Nothing runs
    them, so that is no reason to lose the place. Without that of secure aggregation, though, the worker's
    update would be sent as it is.
    """
    try:
        return schema.Protocol.decode(await grid.get_protocol(place.worker_id, place.request_key, id))
    except (GridResponseError, WireError) as error:
        if id == place.protocols.get(PROTOCOL_NAME) or (
            isinstance(error, GridResponseError) and passes(error)
        ):
            raise
        _log.warning("a Protocol of the cycle cannot be had, and is left out: %s", error)
        return None


async def _each(ids: Mapping[str, int], get: Callable[[int], Awaitable[_T]]) -> dict[str, _T]:
    found = await asyncio.gather(*(get(id) for id in ids.values()))
    return dict(zip(ids, found, strict=True))


def rejection(name: str, version: str, rejected: Rejected) -> CycleRejectedError:
    """The error for a rejection that nobody handles."""
    if rejected.timeout is None:
        again = "it takes no more workers"
    elif rejected.at_latest:
        again = f"its cycle ends in {rejected.timeout:g} s at the latest; ask again before"
    else:
        again = f"ask again in {rejected.timeout:g} s"
    why = "" if rejected.reason is None else f"{rejected.reason}; "
    return CycleRejectedError(
        f"the grid did not take the worker into a cycle of '{name}' {version}: {why}{again}",
        timeout=rejected.timeout,
        at_latest=rejected.at_latest,
    )
