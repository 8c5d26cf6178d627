"""To which request something belongs: the log, the events and the answer name it by one id."""

import contextlib
import dataclasses
import re
import secrets
from collections.abc import Iterator
from contextvars import ContextVar

MOST_ID_CHARACTERS = 64

_ID = re.compile(rf"[!-~]{{1,{MOST_ID_CHARACTERS}}}")
"""Printable ASCII without spaces: it stands in a header, and in a line of the log."""


@dataclasses.dataclass(frozen=True, slots=True)
class Actor:
    """Who did something.

    Attributes:
        role: ``worker``, ``token``, ``owner token``, ``anybody`` (on a grid without tokens), ``command line``
            or ``grid``.
        id: a worker's name in events, a token's name, a replica; None where the role says all.
    """

    role: str
    id: str | None = None


@dataclasses.dataclass(slots=True)
class Correlation:
    """One request.

    Attributes:
        id: its id.
        address: of the peer that sent it; None inside one process.
        actor: who sent it, once that is known.
    """

    id: str
    address: str | None = None
    actor: Actor | None = None


_current: ContextVar[Correlation | None] = ContextVar("correlation", default=None)


def current() -> Correlation | None:
    """The request that is being answered; None for what the grid does by itself."""
    return _current.get()


def note_actor(actor: Actor) -> None:
    """Says who sent the request that is being answered."""
    correlation = _current.get()
    if correlation is not None:
        correlation.actor = actor


@contextlib.contextmanager
def answering(correlation: Correlation) -> Iterator[None]:
    """A block that answers a request."""
    before = _current.set(correlation)
    try:
        yield
    finally:
        _current.reset(before)


def id_for(asked: object) -> str:
    """The id of a request: the one that its sender chose, if it can be used, and else a new one."""
    if isinstance(asked, str) and _ID.fullmatch(asked):
        return asked
    return secrets.token_hex(8)
