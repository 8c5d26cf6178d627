"""How one of the processes of a grid starts: what it is told, and what it does before it loads anything.

This module is all that the parent knows of the others, so that the parent loads neither PyTorch nor a server.
"""

import dataclasses
import os
import pkgutil
import signal
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection

from fedplan.grid.serving.together import Board
from fedplan.grid.settings import Settings

READY = "ready"
"""What a process tells the parent when it answers; anything else is an error for which it ends."""

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Tells prometheus_client, as it is loaded, where to keep counters that are added up over processes."""

_WORK = "fedplan.grid.serving.processes.child:serve_one"


@dataclasses.dataclass(frozen=True)
class Order:
    """What a process is told.

    Attributes:
        number: which one it is, from 0 on.
        settings: of the grid.
        listener: where all of them take connections.
        board: what they have in common.
        parent: the line to the parent.
        prepare: what it does first, such as to begin a log.
    """

    number: int
    settings: Settings
    listener: socket.socket
    board: Board
    parent: Connection
    prepare: Callable[[], object] | None


def follow(order: Order) -> None:
    """Does what it is told, until its end."""
    os.setpgid(0, 0)  # Ctrl-C is sent to all processes of a group: the parent tells the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # forgets one that came before
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ[METRICS_FOLDER] = str(order.board.metrics)
    if order.prepare is not None:
        order.prepare()
    pkgutil.resolve_name(_WORK)(order)
