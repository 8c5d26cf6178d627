"""Queries about API tokens."""

from collections.abc import Sequence

from sqlalchemy import RowMapping, func, select, update

from fedplan.grid.records import ApiToken, Scope
from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import api_tokens


async def add_api_token(db: Db, token: ApiToken, digest: str) -> None:
    """Stores a token; its own text is not stored."""
    values = {
        "name": token.name,
        "digest": digest,
        "scopes": ",".join(sorted(token.scopes)),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
    }
    await db.execute(api_tokens.insert(), values)


async def find_api_token(db: Db, digest: str) -> ApiToken | None:
    """The token of a digest, revoked and expired ones too."""
    query = select(api_tokens).where(api_tokens.c.digest == digest)
    row = (await db.execute(query)).mappings().first()
    return None if row is None else _read(row)


async def has_api_tokens(db: Db) -> bool:
    """Whether there ever was one."""
    return await db.scalar(select(func.max(api_tokens.c.id))) is not None  # which scans nothing


async def list_api_tokens(db: Db) -> Sequence[ApiToken]:
    """All tokens, in the order in which they were made."""
    rows = (await db.execute(select(api_tokens).order_by(api_tokens.c.id))).mappings()
    return [_read(row) for row in rows]


async def revoke_api_tokens(db: Db, name: str, now: float) -> int:
    """Revokes the tokens of a name; returns how many."""
    held = update(api_tokens).where(api_tokens.c.name == name, api_tokens.c.revoked_at.is_(None))
    return (await db.execute(held.values(revoked_at=now))).rowcount


def _read(row: RowMapping) -> ApiToken:
    scopes = frozenset(Scope(name) for name in row["scopes"].split(","))
    return ApiToken(row["name"], scopes, row["created_at"], row["expires_at"], row["revoked_at"])
