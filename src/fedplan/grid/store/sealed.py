"""The secrets that the tables hold: the grid's own key, and those with which models check tokens."""

import json
import secrets as random

from sqlalchemy import select

from fedplan.grid.secrets.sealing import Seal
from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import keys, processes
from fedplan.wire.config import ServerConfig

_GRID = "grid"
_MODEL = "model"
_KEY = 32  # bytes


async def grid_key(db: Db, seal: Seal) -> bytes:
    """The grid's own key; made when there is none, and sealed when it was not.

    Raises:
        SettingsError: it is sealed under another key.
    """
    stored = await db.scalar(select(keys.c.value).where(keys.c.name == _GRID))
    if stored is None:
        made = random.token_bytes(_KEY)
        await db.execute(keys.insert().values(name=_GRID, value=seal.seal(made, _GRID)))
        return made
    key = open_grid_key(bytes(stored), seal)
    if not seal.is_current(bytes(stored)):
        await _overwriting(db)
        await db.execute(keys.update().where(keys.c.name == _GRID).values(value=seal.seal(key, _GRID)))
    return key


def open_grid_key(stored: bytes, seal: Seal) -> bytes:
    """The grid's own key, as it is stored.

    Raises:
        SettingsError: it is sealed under another key.
    """
    return seal.open(stored, _GRID)


async def seal_models(db: Db, seal: Seal) -> int:
    """Seals the secrets of models that are hosted already; returns how many were not.

    Raises:
        SettingsError: one is sealed under another key.
    """
    sealed = 0
    query = select(processes.c.id, processes.c.server_config).where(
        processes.c.server_config.contains('"secret"')
    )
    for row in (await db.execute(query)).all():
        config = json.loads(row.server_config)
        stored = (config.get("authentication") or {}).get("secret")
        if stored is None or seal.is_current(stored.encode()):
            continue
        secret = seal.open(stored.encode(), _MODEL)
        config["authentication"]["secret"] = seal.seal(secret, _MODEL).decode()
        await _overwriting(db)
        changed = processes.update().where(processes.c.id == row.id)
        await db.execute(changed.values(server_config=json.dumps(config)))
        sealed += 1
    return sealed


async def _overwriting(db: Db) -> None:
    """Lets SQLite write zeros over what it deletes; else the secret would stay in the file."""
    if db.dialect.name == "sqlite":
        await db.exec_driver_sql("PRAGMA secure_delete=ON")


def sealed_config(config: ServerConfig, seal: Seal) -> ServerConfig:
    """A server_config as it is stored."""
    checked = config.authentication
    if checked is None or checked.secret is None:
        return config
    secret = seal.seal(checked.secret.encode(), _MODEL).decode()
    return config.model_copy(update={"authentication": checked.model_copy(update={"secret": secret})})


def opened_secret(stored: str, seal: Seal) -> str:
    """A model's secret from its stored server_config.

    Raises:
        SettingsError: it is sealed under another key.
    """
    return seal.open(stored.encode(), _MODEL).decode()
