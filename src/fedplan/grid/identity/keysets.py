"""Sets of public keys that services publish (JWKS), fetched and remembered."""

import asyncio
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Sequence

import httpx

from fedplan.errors import OverloadedError
from fedplan.grid.identity.tokens import Key, key_of_set

logger = logging.getLogger(__name__)

_FRESH_SECONDS = 300.0
"""For so long a set is not fetched again, if it has the key that a token names."""

_USABLE_SECONDS = 3600.0
"""For so long it is used while its service is away."""

_PAUSE_SECONDS = 10.0
"""Between two fetches, whatever tokens name: who makes key ids up must not make the grid ask without end."""

_MOST_BYTES = 256 * 1024
_MOST_KEYS = 20


@dataclasses.dataclass(slots=True)
class _Set:
    """What is known of one service's set. Times are of a monotonic clock."""

    keys: Sequence[Key] = ()
    fetched: float = -float("inf")
    tried: float = -float("inf")
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)


class KeySets:
    """The sets by their addresses.

    Args:
        client: fetches them.
        seconds: how long a service may take.
        clock: the time in seconds, from any moment on.
    """

    def __init__(
        self, client: httpx.AsyncClient, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._seconds = seconds
        self._clock = clock
        self._sets: dict[str, _Set] = {}

    async def keys(self, url: str, id: str | None) -> Sequence[Key]:
        """The keys of a set that may have signed a token.

        Args:
            url: the set.
            id: how the token names its key, if it does.

        Raises:
            OverloadedError: the service does not answer, or with no set.
        """
        known = self._sets.setdefault(url, _Set())
        async with known.lock:
            now = self._clock()
            stale = now - known.fetched > _FRESH_SECONDS or not _named(known.keys, id)
            if stale and now - known.tried > _PAUSE_SECONDS:
                known.tried = now
                await self._fetch(url, known)
        if self._clock() - known.fetched > _USABLE_SECONDS:
            raise OverloadedError(
                "the service that publishes the keys of this model's tokens did not answer; try again later"
            )
        return _named(known.keys, id)

    async def _fetch(self, url: str, known: _Set) -> None:
        try:
            plain = {"accept-encoding": "identity"}
            async with (
                asyncio.timeout(self._seconds),
                self._client.stream("GET", url, headers=plain) as answer,
            ):
                answer.raise_for_status()
                body = bytearray()
                async for piece in answer.aiter_raw():
                    body += piece
                    if len(body) > _MOST_BYTES:
                        raise ValueError(f"more than {_MOST_BYTES} bytes")
            known.keys = _read(body)
            known.fetched = self._clock()
        except (httpx.HTTPError, TimeoutError, ValueError, RecursionError) as error:
            logger.warning("a set of keys could not be fetched: %s", type(error).__name__)


def _named(keys: Sequence[Key], id: str | None) -> Sequence[Key]:
    """Those of an id; all of them for a token that names none."""
    return keys if id is None else [key for key in keys if key.id in (id, None)]


def _read(body: bytes | bytearray) -> Sequence[Key]:
    """The keys of a set; those that check no workers' tokens are left out.

    Raises:
        ValueError: it is no set, or none of them does.
    """
    told = json.loads(body)
    listed = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is no set of keys")
    read = (key_of_set(jwk) for jwk in listed[:_MOST_KEYS] if isinstance(jwk, dict))
    keys = [key for key in read if key is not None]
    if not keys:
        raise ValueError("none of its keys checks tokens")
    return keys
