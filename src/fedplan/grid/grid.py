"""What a running grid consists of. Made by `app`, used by the services."""

import asyncio
import dataclasses
import secrets
from collections.abc import Callable

from fedplan.grid.averaging.parts import Parts
from fedplan.grid.averaging.tally import Tallies
from fedplan.grid.blobs import Blobs
from fedplan.grid.clock import Clock
from fedplan.grid.herds import Herds
from fedplan.grid.identity.access import Access
from fedplan.grid.identity.auth import TokenChecker, WorkerIds
from fedplan.grid.identity.certificates import Certificates
from fedplan.grid.known import Known
from fedplan.grid.memory import Memory
from fedplan.grid.observing.bundles import Bundles
from fedplan.grid.observing.metrics import Metrics
from fedplan.grid.secrets.sealing import Seal
from fedplan.grid.secure.memory import MOST_BYTES, Settled
from fedplan.grid.settings import Settings
from fedplan.grid.store import Store
from fedplan.grid.web.intake import Intake
from fedplan.grid.web.rates import Rates
from fedplan.wire.scalars import Buffer


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """The parts of a running grid.

    Attributes:
        settings: how it runs.
        store: its tables.
        blobs: its blobs.
        known: what is hosted, remembered.
        tallies: the sums of open cycles' diffs.
        parts: what replicas publish of these sums.
        access: what people and programs may do that are no workers.
        worker_ids: makes and reads worker ids.
        seal: encrypts secrets that are stored.
        tokens: checks workers' tokens.
        certificates: reads what proxies tell of workers' certificates.
        metrics: its counters.
        intake: room for what peers send.
        rates: how many requests each address has sent.
        herds: the workers that it rejected, until they ask again.
        clock: the time by which it decides, and that for people.
        bundles: counts events that may come very often.
        draw: a random number in [0, 1), for lots.
        replica: name of this process among those that share the store.
        others: those of them that live, as this one saw when it last looked.
        reporting: a few reports at once are checked, written and counted: more would not be faster, but other
            calls slower, and each needs memory.
        closable: set when a cycle may be waiting to be closed.
        faults: by a cycle's id, why this replica could not close it when it last tried.
        streams: those who follow its events.
        ending: set when this process ends, so that nobody goes on following.
        secure: what is settled of secure rounds, by their cycles' ids.
        withheld: models (by id) and clients of which the log has told that they do not go together.
    """

    settings: Settings
    store: Store
    blobs: Blobs
    known: Known
    tallies: Tallies
    parts: Parts
    access: Access
    worker_ids: WorkerIds
    seal: Seal
    tokens: TokenChecker
    certificates: Certificates
    metrics: Metrics
    intake: Intake
    rates: Rates
    herds: Herds
    clock: Clock
    bundles: Bundles
    draw: Callable[[], float]
    replica: str
    others: set[str] = dataclasses.field(default_factory=set)
    reporting: asyncio.Semaphore = dataclasses.field(default_factory=lambda: asyncio.Semaphore(8))
    closable: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    faults: dict[int, str] = dataclasses.field(default_factory=dict)
    streams: set[object] = dataclasses.field(default_factory=set)
    ending: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    secure: Memory[int, Settled] = dataclasses.field(default_factory=lambda: Memory(MOST_BYTES))
    withheld: set[tuple[int, str]] = dataclasses.field(default_factory=set)

    async def keep(self, kind: str, data: Buffer) -> str:
        """Stores a blob under a key that says which grid it is of: others may share the blob store.

        Args:
            kind: what it is, such as ``models``.
            data: its bytes.

        Returns:
            The key.
        """
        return await self.blobs.put(kind, data, f"{self.store.id}-{secrets.token_hex(16)}")
