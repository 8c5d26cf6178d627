"""Webhooks: what happens is posted, signed, to the addresses that the grid's operator has named.

How far each address has been told stands in the store, so a grid that is killed goes on where it was, and one
replica at a time tells an address. What was sent while a replica was killed may be sent again, and what an
address had not answered when a grid ended.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import hmac
import logging
from collections.abc import Sequence

import httpx
from pydantic_core import to_json

from fedplan.errors import SettingsError
from fedplan.grid.background.watch import Watch
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import Happened
from fedplan.grid.service.events import is_lost, row_of
from fedplan.grid.settings import Settings
from fedplan.grid.store import events, webhooks
from fedplan.grid.store.webhooks import Webhook
from fedplan.grid.web.replies import log_failure
from fedplan.wire.messages import dump

logger = logging.getLogger(__name__)

TIMESTAMP, SIGNATURE, DELIVERY = "X-Fedplan-Timestamp", "X-Fedplan-Signature", "X-Fedplan-Delivery"

_AT_ONCE = 100
"""Events in one message."""

_ANSWER_SECONDS = 8.0
"""How long an address may take to answer; less where other replicas would take it over before."""

_PARTING_SECONDS = 2.0
"""How long an answer may take when the grid ends: what was taken then is not sent again at the next start."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 3600.0
"""Seconds until it is tried again: they double with each failure."""

_LEAST_SECRET = 32


def check_webhooks(settings: Settings) -> None:
    """Sees whether what webhooks need is set.

    Raises:
        SettingsError: it is not.
    """
    secret = settings.webhook_secret
    if settings.webhooks and (secret is None or len(secret.get_secret_value()) < _LEAST_SECRET):
        raise SettingsError(
            "FEDPLAN_WEBHOOKS needs a FEDPLAN_WEBHOOK_SECRET of at least 32 characters, by which whoever "
            "gets the messages knows that they are this grid's: `openssl rand -base64 32` makes one"
        )


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The signature of a message: ``sha256=`` and the HMAC-SHA256 of timestamp, a dot and body, in hex."""
    signed = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"


class Caller:
    """Tells one address what happens.

    Args:
        grid: the grid.
        client: asks it. It must follow no redirect.
        url: the address.
        secret: signs the messages.
    """

    def __init__(self, grid: Grid, client: httpx.AsyncClient, url: str, secret: str) -> None:
        self._grid = grid
        self._client = client
        self._url = url
        self._secret = secret
        self._name = hashlib.sha256(url.encode()).hexdigest()
        self._counters = Watch[str](grid.settings.lease_seconds, grid.clock.monotonic)
        self._stopping = asyncio.Event()
        self._has_begun = False

    async def run(self) -> None:
        """Works until it is stopped."""
        while True:
            try:
                went_on = await self.look()
            except Exception as error:  # noqa: BLE001  # a database that is away comes back
                self._counters.forget()
                went_on = False
                log_failure(logger, "a webhook cannot be looked after at present", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0 if went_on else self._grid.settings.poll_seconds):
                    await self._stopping.wait()
            if self._stopping.is_set():
                return

    def stop(self) -> None:
        """Lets it end, soon after, answered or not. It is not cancelled: see `Sweeper.stop`."""
        self._stopping.set()

    async def look(self) -> bool:
        """Sends the next events, if there are some, it is time, and no other replica does.

        Returns:
            Whether there may be more to send at once.
        """
        grid = self._grid
        if not self._has_begun:
            async with grid.store.writing() as db:
                await webhooks.begin(db, self._name, await events.newest(db))
            self._has_begun = True
        async with grid.store.reading() as db:
            seen = await webhooks.read(db, self._name)
            oldest = await events.oldest(db)
            page = await events.page(db, seen.position, _AT_ONCE)
        still = self._counters.still({self._name: (seen.owner, seen.counter)})
        is_others = seen.owner is not None and self._name not in still
        if not page or grid.clock() < seen.due_at or is_others:
            return False
        async with grid.store.writing() as db:
            held = await webhooks.take(db, seen, grid.replica)
        if held is None:
            return False
        why_not = await self._sent(page, lost=is_lost(seen.position, oldest))
        after = self._after(held, page, why_not)
        async with grid.store.writing() as db:
            await webhooks.give_back(db, held, after)
        return why_not is None

    def _after(self, held: Webhook, page: Sequence[Happened], why_not: str | None) -> Webhook:
        """How far the webhook is after a try."""
        if why_not is None:
            if held.failures:
                logger.info("a webhook (%s) takes events again", self._shown)
            self._grid.metrics.webhooks.labels("sent").inc()
            return dataclasses.replace(held, position=page[-1].position, failures=0, due_at=0.0)
        if self._stopping.is_set():
            return held
        self._grid.metrics.webhooks.labels("failed").inc()
        pause = min(_FIRST_PAUSE * 2.0 ** min(held.failures, 20), _LONGEST_PAUSE)
        if held.failures == 0:
            logger.warning("a webhook (%s) does not take events: %s; it is tried again", self._shown, why_not)
        return dataclasses.replace(held, failures=held.failures + 1, due_at=self._grid.clock() + pause)

    @property
    def _shown(self) -> str:
        """The address without what may be secret in it."""
        url = httpx.URL(self._url)
        return f"{url.scheme}://{url.host}{'' if url.port is None else f':{url.port}'}"

    async def _sent(self, page: Sequence[Happened], *, lost: bool) -> str | None:
        """Sends events; returns why the address has not taken them, or None when it has."""
        told = {"events": [dump(row_of(one)) for one in page]} | ({"lost": True} if lost else {})
        body = to_json(told)
        timestamp = str(int(self._grid.clock.wall()))
        headers = {
            "Content-Type": "application/json",
            TIMESTAMP: timestamp,
            SIGNATURE: signature(self._secret, timestamp, body),
            DELIVERY: str(page[-1].position),
        }
        posting = asyncio.create_task(self._answer(body, headers))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({posting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await asyncio.wait({posting}, timeout=_PARTING_SECONDS)
        if not posting.done():
            posting.cancel()
            await asyncio.wait({posting})
        return "the grid ends" if posting.cancelled() else posting.result()

    async def _answer(self, body: bytes, headers: dict[str, str]) -> str | None:
        seconds = min(_ANSWER_SECONDS, 0.8 * self._grid.settings.lease_seconds)
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream("POST", self._url, content=body, headers=headers) as answer,
            ):
                status = answer.status_code  # it says it all; a body could be endless
        except TimeoutError:
            return f"it does not answer in {seconds:g} s"
        except httpx.HTTPError as error:
            return f"it cannot be reached ({type(error).__name__})"
        return None if 200 <= status < 300 else f"it answers with {status}"


def callers(grid: Grid, client: httpx.AsyncClient) -> list[Caller]:
    """One for each address that the operator has named."""
    secret = grid.settings.webhook_secret
    if secret is None:
        return []
    return [Caller(grid, client, url, secret.get_secret_value()) for url in grid.settings.webhooks]
