"""What a running grid consists of. Made by `app`, used by the services."""

import asyncio
import dataclasses
import secrets
from collections.abc import Callable

from fedplan.errors import AccessDeniedError, AuthenticationError
from fedplan.grid.auth import TokenChecker, WorkerIds, is_same
from fedplan.grid.averaging.tally import Tallies
from fedplan.grid.blobs import Blobs
from fedplan.grid.known import Known
from fedplan.grid.metrics import Metrics
from fedplan.grid.settings import Settings
from fedplan.grid.store import Store
from fedplan.grid.web.callers import Caller
from fedplan.grid.web.intake import Intake


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """The parts of a running grid.

    Attributes:
        settings: how it runs.
        store: its tables.
        blobs: its blobs.
        known: what is hosted, remembered.
        tallies: the sums of open cycles' diffs.
        worker_ids: makes and reads worker ids.
        tokens: checks workers' tokens.
        metrics: its counters.
        intake: room for what peers send.
        clock: the time, in seconds since 1970.
        draw: a random number in [0, 1), for lots.
        replica: name of this process among those that share the store.
        reporting: a few reports at once are checked, written and counted: more would not be faster, but other
            calls slower, and each needs memory.
        closable: set when a cycle may be waiting to be closed.
        withheld: models (by id) and clients of which the log has told that they do not go together.
    """

    settings: Settings
    store: Store
    blobs: Blobs
    known: Known
    tallies: Tallies
    worker_ids: WorkerIds
    tokens: TokenChecker
    metrics: Metrics
    intake: Intake
    clock: Callable[[], float]
    draw: Callable[[], float]
    replica: str = dataclasses.field(default_factory=lambda: secrets.token_hex(8))
    reporting: asyncio.Semaphore = dataclasses.field(default_factory=lambda: asyncio.Semaphore(8))
    closable: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    withheld: set[tuple[int, str]] = dataclasses.field(default_factory=set)

    def is_owner(self, caller: Caller) -> bool:
        """Whether somebody shows the grid's owner token.

        Where the grid has none, everybody is its owner but web pages from elsewhere: they reach a grid that
        listens to its own machine alone.
        """
        expected = self.settings.owner_token
        if expected is None:
            return not caller.is_foreign_page
        return caller.token is not None and is_same(caller.token, expected.get_secret_value())

    def require_owner(self, caller: Caller) -> None:
        """Lets only the grid's owner pass.

        Raises:
            AuthenticationError: no token, or a wrong one.
            AccessDeniedError: a web page from elsewhere asks, and the grid has no owner token.
        """
        if self.is_owner(caller):
            return
        if self.settings.owner_token is None:
            raise AccessDeniedError(
                "this grid has no owner token, so no web page from elsewhere may do this; set "
                "FEDPLAN_OWNER_TOKEN, and send it as 'Authorization: Bearer …'"
            )
        if caller.token is None:
            raise AuthenticationError(
                "this needs the grid's owner token; send it as 'Authorization: Bearer …'"
            )
        raise AuthenticationError("the owner token is wrong")
