"""What people and programs may do that are no workers: the owner token, and API tokens with scopes."""

import dataclasses
import hashlib
import secrets
import socket
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from fedplan.errors import AccessDeniedError, AuthenticationError, ConfigError, GridError
from fedplan.grid.identity.auth import is_same
from fedplan.grid.observing.bundles import Bundles
from fedplan.grid.observing.correlation import Actor, note_actor
from fedplan.grid.observing.events import Event, Kind
from fedplan.grid.records import ApiToken, Scope
from fedplan.grid.store import Store, credentials, events
from fedplan.grid.store.connection import Db
from fedplan.grid.web.callers import Caller
from fedplan.wire.config import MOST_CHARACTERS

_PREFIX = "fedplan_"
"""So that people, and programs that look for secrets, know a token when they see one."""

_KEY = 32  # bytes

_COMMAND_LINE = "asked for on the command line"


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """Who asks, and what is open to it.

    Attributes:
        name: a token's name, ``owner token``, or ``anybody``.
        scopes: all that it may do; with `Scope.ADMIN` these are all scopes.
        is_anybody: whether the grid has no tokens, so that everybody is this one.
    """

    name: str
    scopes: frozenset[Scope]
    is_anybody: bool = False


class Access:
    """Decides who may do what.

    A grid without an owner token on which no API token was ever made is open: everybody may do everything,
    but for web pages from elsewhere. One whose tokens are all revoked is not open again.

    Args:
        store: where API tokens are.
        owner_token: opens everything.
        clock: the time in seconds since 1970.
        bundles: takes note of who was let pass, and who was not; None for nobody.
    """

    def __init__(
        self,
        store: Store,
        owner_token: str | None,
        clock: Callable[[], float],
        bundles: Bundles | None = None,
    ) -> None:
        self._store = store
        self._owner_token = owner_token
        self._clock = clock
        self._bundles = bundles

    async def require(self, caller: Caller, scope: Scope) -> None:
        """Lets only those pass who may do something.

        Raises:
            AuthenticationError: no token, or one that is not known, was revoked, or has expired.
            AccessDeniedError: a token for other things, or a web page at a grid without tokens.
        """
        refusal = await self.refusal(caller, scope)
        if refusal is not None:
            if self._bundles is not None:
                event = Event(Kind.REFUSED, str(refusal), details={"what": f"a call that needs '{scope}'"})
                self._bundles.add(event, (scope, str(refusal)))
            raise refusal

    async def refusal(self, caller: Caller, scope: Scope) -> GridError | None:
        """Why somebody may not do something, as the error to raise; None when it may."""
        found = await self._find(caller)
        if isinstance(found, ApiToken):
            refusal = _refusal_of_token(found, scope, self._clock())
            if refusal is None:
                self._note(Actor("token", found.name), scope)
            return refusal
        if found is _OWNER:
            self._note(Actor("owner token"), scope)
            return None
        if found is None:
            return _refusal_of_stranger(caller, scope)
        if caller.is_foreign_page:
            return _refusal_of_page()
        note_actor(Actor("anybody"))
        return None

    async def holder(self, caller: Caller) -> Holder | None:
        """Who asks, for what is shown to it; None when nothing is open to it. Nothing is written down."""
        found = await self._find(caller)
        if not isinstance(found, ApiToken):
            return None if found is _ANYBODY and caller.is_foreign_page else found
        if not found.is_good(self._clock()):
            return None
        return Holder(found.name, frozenset(Scope) if Scope.ADMIN in found.scopes else found.scopes)

    async def _find(self, caller: Caller) -> ApiToken | Holder | None:
        """The API token that is shown, good or not; `_OWNER`; `_ANYBODY` on an open grid; None for others."""
        shown, owner = caller.token, self._owner_token
        if owner is not None and shown is not None and is_same(shown, owner):
            return _OWNER
        async with self._store.reading() as db:
            token = None
            if shown is not None and shown.startswith(_PREFIX):
                token = await credentials.find_api_token(db, token_digest(shown))
            is_open = token is None and owner is None and not await credentials.has_api_tokens(db)
        return _ANYBODY if is_open else token

    def _note(self, actor: Actor, scope: Scope) -> None:
        """Takes note of a token that opens something."""
        note_actor(actor)
        if self._bundles is not None:
            event = Event(Kind.TOKEN_USED, f"it opened a call that needs '{scope}'", actor=actor)
            self._bundles.add(event, (actor, scope))


_OWNER = Holder("owner token", frozenset(Scope))
_ANYBODY = Holder("anybody", frozenset(Scope), is_anybody=True)


def _refusal_of_stranger(caller: Caller, scope: Scope) -> GridError:
    return AuthenticationError(
        f"this needs the grid's owner token, or an API token for '{scope}'; send it as "
        "'Authorization: Bearer …'"
        if caller.token is None
        else "the token is not known to this grid: it is neither the owner token nor an API token"
    )


def _refusal_of_page() -> GridError:
    return AccessDeniedError(
        "this grid has no owner token, so no web page from elsewhere may do this; set "
        "FEDPLAN_OWNER_TOKEN, and send it as 'Authorization: Bearer …'"
    )


def _refusal_of_token(token: ApiToken, scope: Scope, now: float) -> GridError | None:
    if token.revoked_at is not None:
        return AuthenticationError(f"the token '{token.name}' was revoked")
    if token.expires_at is not None and token.expires_at <= now:
        when = datetime.fromtimestamp(token.expires_at, UTC)
        return AuthenticationError(f"the token '{token.name}' expired at {when:%Y-%m-%d %H:%M} UTC")
    if not {scope, Scope.ADMIN} & token.scopes:
        return AccessDeniedError(
            f"the token '{token.name}' is for {', '.join(sorted(token.scopes))}, and this needs '{scope}'"
        )
    return None


def token_digest(token: str) -> str:
    """What is stored of an API token. It is random and long, so that a plain hash cannot be turned back."""
    return hashlib.sha256(token.encode()).hexdigest()


async def make_token(
    store: Store,
    name: str,
    scopes: Collection[Scope],
    seconds: float | None,
    now: float | None = None,
    *,
    cause: str = _COMMAND_LINE,
) -> str:
    """Makes an API token, which is told only now.

    Args:
        store: the grid's.
        name: tells it from others.
        scopes: what it opens.
        seconds: for how long; without end when None.
        now: the time, in seconds since 1970; that of this machine by default.
        cause: why, as the event says it.

    Raises:
        ConfigError: one of that name is in use, or the name is none, or it opens nothing.
    """
    if not 0 < len(name) <= MOST_CHARACTERS or not name.isprintable():
        raise ConfigError(f"a token's name has 1 to {MOST_CHARACTERS} printable characters")
    if not scopes:
        raise ConfigError(f"a token without a scope opens nothing; the scopes are {', '.join(Scope)}")
    made = time.time() if now is None else now
    text = _PREFIX + secrets.token_urlsafe(_KEY)
    token = ApiToken(name, frozenset(scopes), made, None if seconds is None else made + seconds)
    async with store.writing() as db:
        if any(held.name == name and held.is_good(made) for held in await credentials.list_api_tokens(db)):
            raise ConfigError(f"there is a token '{name}'; revoke it first, or choose another name")
        await credentials.add_api_token(db, token, token_digest(text))
        await _record(db, Kind.TOKEN_CREATED, name, made, cause, scopes=sorted(scopes), seconds=seconds)
    return text


async def revoke_token(
    store: Store, name: str, now: float | None = None, *, cause: str = _COMMAND_LINE
) -> None:
    """Revokes the API token of a name; the grid's processes know it at once.

    Args:
        store: the grid's.
        name: the token's.
        now: the time, in seconds since 1970; that of this machine by default.
        cause: why, as the event says it.

    Raises:
        ConfigError: there is none, or none that was not revoked before.
    """
    at = time.time() if now is None else now
    async with store.writing() as db:
        if not await credentials.revoke_api_tokens(db, name, at):
            raise ConfigError(
                f"there is no token '{name}' to revoke; `fedplan token list` shows those there are"
            )
        await _record(db, Kind.TOKEN_REVOKED, name, at, cause)


async def _record(db: Db, kind: Kind, name: str, now: float, cause: str, **details: object) -> None:
    """Writes down what was done with a token: by whoever sent the request that is being answered, or by
    `fedplan token`, and on which machine then."""
    event = Event(kind, cause, details={"token": name, **details})
    await events.add(db, now, event, by=Actor("command line", socket.gethostname()))
