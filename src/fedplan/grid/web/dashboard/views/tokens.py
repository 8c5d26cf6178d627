"""API tokens as rows of a table, and the form that makes one."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fedplan.errors import InvalidRequestError
from fedplan.grid.records import ApiToken, Scope
from fedplan.grid.web.dashboard.views.words import state, when

DAY = 86_400.0

LIFETIMES = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "a year", "": "without end"}
"""What the form offers: days, and in words."""

SCOPES = {
    Scope.OBSERVE: "see how models are doing",
    Scope.READ: "retrieve checkpoints",
    Scope.HOST: "host and control models",
    Scope.ADMIN: "everything",
}


def token_rows(tokens: Sequence[ApiToken], now: float) -> list[dict[str, Any]]:
    """A row for each token, those that are good first, the newest of them first."""
    listed = sorted(tokens, key=lambda one: (not one.is_good(now), -one.created_at))
    return [
        {
            "name": one.name,
            "scopes": ", ".join(sorted(one.scopes)),
            "made": when(datetime.fromtimestamp(one.created_at, UTC)),
            "expires": None if one.expires_at is None else when(datetime.fromtimestamp(one.expires_at, UTC)),
            "state": state(_state(one, now)),
            "is_good": one.is_good(now),
        }
        for one in listed
    ]


def _state(one: ApiToken, now: float) -> str:
    if one.revoked_at is not None:
        return "revoked"
    return "good" if one.is_good(now) else "expired"


def wanted_token(fields: Mapping[str, Sequence[str]]) -> tuple[str, frozenset[Scope], float | None]:
    """The name, the scopes and the seconds that the form asks for.

    Raises:
        InvalidRequestError: the form's page does not offer that.
    """
    days = fields.get("days", ["90"])[0]
    named = fields.get("scope", [])
    if days not in LIFETIMES or not set(named) <= set(Scope):
        raise InvalidRequestError("this lifetime, or this scope, is not one that the form offers")
    scopes = frozenset(Scope(name) for name in named)
    return fields.get("name", [""])[0].strip(), scopes, float(days) * DAY if days else None
