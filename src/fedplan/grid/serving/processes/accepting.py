"""Taking connections from a socket from which other processes take them too.

All processes are told of each new connection, and the first to ask gets it. Of a burst that is one of them,
which then has all connections, for as long as their clients keep them open. A socket of its own for each
process (SO_REUSEPORT) would let the operating system draw by lot, and lose what waits at a process that ends;
and a second grid could listen on the same port without an error. So a process that has more connections than
the others lets them ask first.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable

from fedplan.grid.serving.together import Held

logger = logging.getLogger(__name__)

_MORE = 1.1
"""A process that has so many times as many connections as the mean, and one more, lets others ask first."""

_POLITE_SECONDS = 0.001
"""How long it waits then."""

_AT_ONCE = 64
"""Connections that it takes after that, if no other process has taken one."""

_SCARCE_SECONDS = 1.0
"""How long it waits where the operating system has no room for another connection."""

_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Accepting:
    """Takes connections while it is at work.

    Args:
        listener: the socket; it must not block.
        made: makes the protocol of a connection.
        tls: how it is encrypted; None: not.
        connections: those of all processes.
        processes: how many they are.
    """

    def __init__(
        self,
        listener: socket.socket,
        made: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        connections: Held,
        processes: int,
    ) -> None:
        self._listener = listener
        self._made = made
        self._tls = tls
        self._connections = connections
        self._processes = processes
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._elsewhere = 0  # connections of the others when it began to wait

    def begin(self) -> None:
        """Takes connections from now on."""
        self._pause = None
        self._loop.add_reader(self._listener, self._come)

    def end(self) -> None:
        """Takes no more; what is not a connection yet is given up."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        for task in self._opening:
            task.cancel()

    def _come(self) -> None:
        """At least one waits, or did until another process took it."""
        coming = len(self._opening)
        total = self._connections.total() + coming
        if self._connections.own + coming > _MORE * total / self._processes + 1:
            self._elsewhere = self._of_others()
            self._wait(_POLITE_SECONDS, self._take_what_is_left)
        else:
            self._take()

    def _take_what_is_left(self) -> None:
        self.begin()
        for _ in range(1 if self._of_others() > self._elsewhere else _AT_ONCE):
            if not self._take():
                return

    def _of_others(self) -> int:
        return self._connections.total() - self._connections.own

    def _take(self) -> bool:
        """Takes one connection; says whether there was one."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in _SCARCE:
                raise
            logger.warning("no connection can be taken, for the moment: %s", error.strerror)
            self._wait(_SCARCE_SECONDS, self.begin)
            return False
        connection.setblocking(False)
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._made, connection, ssl=self._tls)
        except OSError:  # it is gone again, or speaks no TLS
            connection.close()

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, then)
