"""What bounds the connections of a server, and the timers that hold each to it."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import uvicorn

from fedplan.grid.serving.together import Together
from fedplan.grid.web.intake import Intake
from fedplan.grid.web.proxies import Proxies


class Peers:
    """The connections that are open.

    Args:
        most: how many there may be, of all processes of the grid.
        most_of_one: how many of them may come from one address.
        proxies: those whose connections are many clients', and are not counted by address.
        most_here: how many this process may have.
        together: those of the other processes; None for one process alone.
    """

    def __init__(
        self,
        most: int,
        most_of_one: int,
        proxies: Proxies | None = None,
        *,
        most_here: int | None = None,
        together: Together | None = None,
    ) -> None:
        self._most = most
        self._most_here = most if most_here is None else most_here
        self._most_of_one = most_of_one
        self._proxies = proxies or Proxies(())
        self._together = together or Together.alone()
        self._addresses: dict[object, str] = {}
        self._count: Counter[str] = Counter()

    def enter(self, connection: object, address: str) -> bool:
        """Counts a connection, if there is room for it; says whether there is."""
        if len(self._addresses) >= self._most_here or self._together.connections.total() >= self._most:
            return False
        of_one = self._count[address] + self._together.by_address.elsewhere(address)
        if of_one >= self._most_of_one and address not in self._proxies:
            return False
        self._addresses[connection] = address
        self._count[address] += 1
        self._together.connections.add(1)
        self._together.by_address.add(address, 1)
        return True

    def leave(self, connection: object) -> None:
        """A connection has ended; nothing happens if it was never counted."""
        address = self._addresses.pop(connection, None)
        if address is not None:
            self._count[address] -= 1
            self._together.connections.add(-1)
            self._together.by_address.add(address, -1)
            if not self._count[address]:
                del self._count[address]


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What bounds the connections of a server.

    Attributes:
        peers: those that are open.
        head_seconds: how long a request's head may take to come.
        stall_seconds: how long a peer may take nothing of what is sent to it.
        intake: the room for what peers send; there is one as soon as the grid is open.
    """

    peers: Peers
    head_seconds: float
    stall_seconds: float
    intake: Callable[[], Intake]


class BoundedConfig(uvicorn.Config):
    """uvicorn's configuration, with bounds for the protocols of this package."""

    def __init__(self, app: Any, bounds: Bounds, **options: Any) -> None:
        """See `uvicorn.Config`."""
        super().__init__(app, **options)
        self.bounds = bounds


def bounds_of(config: uvicorn.Config) -> Bounds:
    """The bounds of a server that these protocols serve.

    Raises:
        TypeError: it has none.
    """
    if not isinstance(config, BoundedConfig):
        raise TypeError("this protocol needs a BoundedConfig")
    return config.bounds


class Deadline:
    """Does something unless it is told in time that there is no need.

    Args:
        loop: whose clock it is.
        seconds: how long it waits.
        act: what it does.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, act: Callable[[], object]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._act = act
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The time runs from now on, if it does not run already."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._run_out)

    def end(self) -> None:
        """There is no need."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run_out(self) -> None:
        self._timer = None
        self._act()


class BoundedConnection(asyncio.Protocol):
    """The part of a protocol that bounds a connection, whatever is said over it. It stands before uvicorn's
    protocol among the bases; the names are those of asyncio's callbacks, and of uvicorn's attributes.

    Attributes:
        bounds: those of the server.
        is_admitted: whether there was room for the connection.
    """

    config: uvicorn.Config
    loop: asyncio.AbstractEventLoop
    client: tuple[str, int] | None
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        super().connection_made(transport)
        self.bounds = bounds_of(self.config)
        self._stall = Deadline(self.loop, self.bounds.stall_seconds, self.transport.abort)
        self.is_admitted = self.bounds.peers.enter(self, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self.leave()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer takes what is sent more slowly than it is written."""
        self._stall.begin()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The peer has taken most of what was written."""
        self._stall.end()
        super().resume_writing()

    def leave(self) -> None:
        """The connection counts no more."""
        self.bounds.peers.leave(self)
        self._stall.end()
