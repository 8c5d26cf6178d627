"""Queries about what is hosted: FL processes, their Plans, Protocols and checkpoints."""

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, RowMapping, select
from sqlalchemy.exc import IntegrityError

from fedplan.errors import NameTakenError
from fedplan.grid.records import (
    Checkpoint,
    Hosted,
    HostedPlan,
    HostedProtocol,
    NewProcess,
    Process,
    Variant,
)
from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import checkpoints, plan_variants, plans, processes, protocols
from fedplan.plan.signature import Role
from fedplan.wire.config import ServerConfig
from fedplan.wire.messages import EVALUATION_PLAN


async def find_process(db: Db, name: str, version: str | None) -> Process | None:
    """The FL process of a name; without a version the one hosted last."""
    query = select(processes).where(processes.c.name == name)
    if version is not None:
        query = query.where(processes.c.version == version)
    row = (await db.execute(query.order_by(processes.c.id.desc()).limit(1))).mappings().first()
    return None if row is None else read_process(row)


async def get_process(db: Db, id: int) -> Process:
    """The FL process of an id that is known to exist."""
    return read_process((await db.execute(select(processes).where(processes.c.id == id))).mappings().one())


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
    made_in: int | None = None,
) -> int:
    """Stores a checkpoint and returns its id; for `made_in` see `records.Checkpoint`."""
    values = {"process_id": process_id, "number": number, "blob": blob, "created_at": now, "state": state}
    values["made_in"] = made_in
    id = await db.scalar(checkpoints.insert().returning(checkpoints.c.id), values)
    return int(id)


async def get_checkpoint(db: Db, id: int) -> Checkpoint:
    """The checkpoint of an id that is known to exist."""
    row = (await db.execute(select(checkpoints).where(checkpoints.c.id == id))).mappings().one()
    return read_checkpoint(row)


async def checkpoints_of(db: Db, process_id: int) -> Sequence[Checkpoint]:
    """All checkpoints of an FL process, oldest first."""
    query = select(checkpoints).where(checkpoints.c.process_id == process_id).order_by(checkpoints.c.number)
    return [read_checkpoint(row) for row in (await db.execute(query)).mappings()]


async def find_checkpoint(db: Db, process_id: int, number: int | None) -> Checkpoint | None:
    """A checkpoint by its number; without one the latest."""
    query = select(checkpoints).where(checkpoints.c.process_id == process_id)
    if number is not None:
        query = query.where(checkpoints.c.number == number)
    row = (await db.execute(query.order_by(checkpoints.c.number.desc()).limit(1))).mappings().first()
    return None if row is None else read_checkpoint(row)


def read_checkpoint(row: RowMapping) -> Checkpoint:
    """A checkpoint from its row."""
    return Checkpoint(
        row["id"],
        row["number"],
        row["blob"],
        row["created_at"],
        row["state"],
        row["made_in"],
        row["deleted_at"],
    )


def read_process(row: RowMapping) -> Process:
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
    )
