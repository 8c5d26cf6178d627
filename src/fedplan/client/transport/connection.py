"""What the worker's and the model owner's client share: one grid, and the closing of its connections."""

import logging
from types import TracebackType
from typing import Self

from fedplan.client.loops.blocking import run_blocking
from fedplan.client.transport.api import GridApi


def wants(verbose: bool, log: bool | None, allow_plain_text: bool | None) -> tuple[bool, bool]:
    """Whether to log, and whether to allow plain text: what `verbose` says, where they are not given.

    In the reference `verbose` means both.
    """
    return verbose if log is None else log, verbose if allow_plain_text is None else allow_plain_text


def show_log() -> None:
    """Makes the logger `fedplan` show what happens, unless the program has set it up already."""
    logger = logging.getLogger("fedplan")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())


class GridConnection:
    """A client of one grid. Use it with `with` in scripts and with `async with` in coroutines."""

    def __init__(self, grid: GridApi) -> None:
        """A client that makes these calls."""
        self._grid = grid

    async def aclose(self) -> None:
        """Closes the connections of the running event loop. The client can be used again afterwards."""
        await self._grid.aclose()

    def close(self) -> None:
        """Closes the connections of the blocking calls. The client can be used again afterwards."""
        run_blocking(self.aclose())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
