"""Queries about what is hosted: FL processes, their Plans, Protocols and checkpoints."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, bindparam, func, select, update
from sqlalchemy.exc import IntegrityError

from fedplan.errors import NameTakenError, NotFoundError
from fedplan.grid.candidates import NewProcess
from fedplan.grid.records import (
    Checkpoint,
    Hosted,
    HostedPlan,
    HostedProtocol,
    Process,
    Variant,
)
from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import checkpoints, configs, plan_variants, plans, processes, protocols
from fedplan.plan.signature import Role
from fedplan.wire.config import ServerConfig
from fedplan.wire.messages import EVALUATION_PLAN

_AUTHENTICATION = "authentication"
"""The key of a server_config that never changes."""

_REVISION = select(processes.c.id, processes.c.revision).where(
    processes.c.name == bindparam("name"), processes.c.version == bindparam("version")
)


async def find_process(db: Db, name: str, version: str | None) -> Process | None:
    """The FL process of a name; without a version the one hosted last."""
    query = select(processes).where(processes.c.name == name)
    if version is not None:
        query = query.where(processes.c.version == version)
    row = (await db.execute(query.order_by(processes.c.id.desc()).limit(1))).mappings().first()
    return None if row is None else read_process(row)


async def find_revision(db: Db, name: str, version: str) -> tuple[int, int] | None:
    """The id of the FL process of a name and version, and the revision of its configurations."""
    row = (await db.execute(_REVISION, {"name": name, "version": version})).first()
    return None if row is None else (row.id, row.revision)


async def get_process(db: Db, id: int, revision: int | None = None) -> Process:
    """The FL process of an id, with the configurations of a revision; by default the newest.

    Raises:
        NotFoundError: it was deleted.
    """
    row = (await db.execute(select(processes).where(processes.c.id == id))).mappings().first()
    if row is None:
        raise deleted()
    if revision in (None, row["revision"]):
        return read_process(row)
    before = select(configs).where(configs.c.process_id == id, configs.c.revision == revision)
    kept = (await db.execute(before)).mappings().one()
    server_config = json.loads(row["server_config"])
    settled = {key: server_config[key] for key in (_AUTHENTICATION,) if key in server_config}
    replaced = {
        "revision": revision,
        "client_config": kept["client_config"],
        "server_config": json.dumps(json.loads(kept["server_config"]) | settled),
    }
    return read_process({**row, **replaced})


async def set_configs(
    db: Db, process: Process, client_config: Mapping[str, Any], server_config: ServerConfig
) -> None:
    """Changes the configurations of an FL process; cycles that began with those of before keep them.

    Args:
        db: the connection. The model's latest cycle is locked.
        process: as it is before.
        client_config: the new one.
        server_config: the new one, with the same `authentication`.
    """
    before = process.server_config.model_dump_json(exclude_unset=True, exclude={_AUTHENTICATION})
    kept = {
        "process_id": process.id,
        "revision": process.revision,
        "client_config": json.dumps(process.client_config),
        "server_config": before,
    }
    await db.execute(configs.insert(), kept)
    values = {
        "revision": process.revision + 1,
        "client_config": json.dumps(client_config),
        "server_config": server_config.model_dump_json(exclude_unset=True),
    }
    await db.execute(update(processes).where(processes.c.id == process.id).values(values))


async def add_process(db: Db, new: NewProcess[str], now: float) -> tuple[int, int]:
    """Stores an FL process with its Plans, Protocols and first checkpoint.

    Returns:
        The ids of the process and of the checkpoint.

    Raises:
        NameTakenError: the name and version are hosted already.
    """
    values = {
        "name": new.name,
        "version": new.version,
        "client_config": json.dumps(new.client_config),
        "server_config": new.server_config.model_dump_json(exclude_unset=True),
        "layout": json.dumps(new.layout),
        "averaging_plan": new.averaging_plan,
        "created_at": now,
        "changing": None if new.changing is None else json.dumps(new.changing),
        "frozen": new.frozen,
        "roles": json.dumps(new.roles),
        "evaluates": EVALUATION_PLAN in new.plans,
        "measured": None if new.measured is None else json.dumps(sorted(new.measured)),
    }
    try:
        process_id = await db.scalar(processes.insert().returning(processes.c.id), values)
    except IntegrityError:
        raise name_taken(new.name, new.version) from None
    for name, plan in new.plans.items():
        row = {"process_id": process_id, "name": name, "missing": json.dumps(plan.missing)}
        plan_id = await db.scalar(plans.insert().returning(plans.c.id), row)
        rows = [
            {"plan_id": plan_id, "variant": kind, "blob": variant.content, "error": variant.error}
            for kind, variant in plan.variants.items()
        ]
        await db.execute(plan_variants.insert(), rows)
    for name, blob in new.protocols.items():
        await db.execute(protocols.insert(), {"process_id": process_id, "name": name, "blob": blob})
    return process_id, await add_checkpoint(db, process_id, 1, new.model, now)


def name_taken(name: str, version: str) -> NameTakenError:
    """The error for a name and version that are hosted already."""
    return NameTakenError(f"the model '{name}' version '{version}' is hosted already; choose another version")


def deleted() -> NotFoundError:
    """The error for a model that was deleted since somebody got to know of it."""
    return NotFoundError("the model was deleted from this grid")


async def hosted(db: Db, process: Process) -> Hosted:
    """A process with its Plans and Protocols."""
    those = select(protocols).where(protocols.c.process_id == process.id).order_by(protocols.c.id)
    found = await hosted_plans(db, processes.c.id == process.id)
    return Hosted(
        process,
        found.get(process.id, {}),
        {row.name: HostedProtocol(row.id, row.blob) for row in await db.execute(those)},
    )


async def hosted_plans(db: Db, *which: ColumnElement[bool]) -> Mapping[int, Mapping[str, HostedPlan]]:
    """The Plans of FL processes, by process and by name.

    Args:
        db: the connection.
        which: what holds for the processes.
    """
    query = (
        select(plans, plan_variants.c.variant, plan_variants.c.blob, plan_variants.c.error)
        .select_from(processes.outerjoin(plans).outerjoin(plan_variants))  # so it goes by the processes
        .where(*which, plan_variants.c.variant.is_not(None))
        .order_by(plans.c.id)
    )
    found: dict[int, dict[str, HostedPlan]] = {}
    for row in await db.execute(query):
        those = found.setdefault(row.process_id, {})
        forms = those[row.name].variants if row.name in those else {}
        whole = {**forms, row.variant: Variant(row.blob, row.error)}
        those[row.name] = HostedPlan(row.id, whole, json.loads(row.missing or "{}"))
    return found


async def add_checkpoint(
    db: Db,
    process_id: int,
    number: int,
    blob: str,
    now: float,
    state: str | None = None,
    *,
    cycle: int | None = None,
    source: int | None = None,
) -> int:
    """Stores a checkpoint and returns its id; see `Checkpoint`."""
    values = {
        "process_id": process_id,
        "number": number,
        "blob": blob,
        "created_at": now,
        "state": state,
        "cycle": cycle,
        "source": source,
    }
    id = await db.scalar(checkpoints.insert().returning(checkpoints.c.id), values)
    return int(id)


async def get_checkpoint(db: Db, id: int) -> Checkpoint:
    """The checkpoint of an id.

    Raises:
        NotFoundError: its model was deleted.
    """
    row = (await db.execute(select(checkpoints).where(checkpoints.c.id == id))).mappings().first()
    if row is None:
        raise deleted()
    return read_checkpoint(row)


async def find_checkpoint(db: Db, process_id: int, number: int | None) -> Checkpoint | None:
    """A checkpoint by its number; without one the latest."""
    query = select(checkpoints).where(checkpoints.c.process_id == process_id)
    if number is not None:
        query = query.where(checkpoints.c.number == number)
    row = (await db.execute(query.order_by(checkpoints.c.number.desc()).limit(1))).mappings().first()
    return None if row is None else read_checkpoint(row)


async def latest_checkpoint(db: Db, process_id: int) -> Checkpoint:
    """The newest checkpoint of an FL process.

    Raises:
        NotFoundError: the model was deleted.
    """
    found = await find_checkpoint(db, process_id, None)
    if found is None:
        raise deleted()
    return found


async def checkpoints_of(db: Db, process_id: int) -> Sequence[Checkpoint]:
    """All checkpoints of an FL process, the newest first."""
    query = select(checkpoints).where(checkpoints.c.process_id == process_id)
    found = (await db.execute(query.order_by(checkpoints.c.number.desc()))).mappings()
    return [read_checkpoint(row) for row in found]


async def drop_between(db: Db, process_id: int, after: int, before: int) -> None:
    """Drops the checkpoints whose numbers are between two."""
    numbers = checkpoints.c.number
    those = (checkpoints.c.process_id == process_id, numbers > after, numbers < before)
    await db.execute(update(checkpoints).where(*those).values(dropped=True))


async def restart_after(db: Db, process_id: int, number: int) -> None:
    """Lets no report of a cycle, or of an older one, go into a later one."""
    values = {"restarted_after": number}
    await db.execute(update(processes).where(processes.c.id == process_id).values(values))


async def next_number(db: Db, process_id: int) -> int:
    """The number of an FL process's next checkpoint. None is used twice: its latest cycle must be locked."""
    greatest = select(func.max(checkpoints.c.number)).where(checkpoints.c.process_id == process_id)
    return 1 + int(await db.scalar(greatest) or 0)


async def dropped(db: Db, process_id: int) -> Collection[int]:
    """The numbers of the checkpoints of an FL process that were dropped."""
    those = select(checkpoints.c.number).where(checkpoints.c.process_id == process_id, checkpoints.c.dropped)
    return set(await db.scalars(those))


async def restarted_after(db: Db, process_id: int) -> int:
    """The number of the cycle whose reports, and those of older ones, go into no later cycle; 0 for none."""
    query = select(processes.c.restarted_after).where(processes.c.id == process_id)
    return int(await db.scalar(query) or 0)


def read_checkpoint(row: RowMapping) -> Checkpoint:
    """A checkpoint from its row."""
    names = (field.name for field in dataclasses.fields(Checkpoint))
    return Checkpoint(**{name: row[name] for name in names})


def read_process(row: Mapping[Any, Any]) -> Process:
    """An FL process from its row."""
    layout = tuple((tuple(shape), dtype) for shape, dtype in json.loads(row["layout"]))
    changing = None if row["changing"] is None else tuple(json.loads(row["changing"]))
    held = len(layout) if changing is None else len(changing)
    roles = ["trained"] * held if row["roles"] is None else json.loads(row["roles"])
    return Process(
        id=row["id"],
        name=row["name"],
        version=row["version"],
        client_config=json.loads(row["client_config"]),
        server_config=ServerConfig.model_validate_json(row["server_config"]),
        layout=layout,
        averaging_plan=row["averaging_plan"],
        changing=changing,
        frozen=row["frozen"],
        roles=tuple(map(Role, roles)),
        evaluates=row["evaluates"],
        measured=None if row["measured"] is None else frozenset(json.loads(row["measured"])),
        revision=row["revision"],
    )
