"""How the database answers what each call asks it: the plans of the queries, printed."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import event

from benchmarks.line import Line
from benchmarks.models import state
from benchmarks.rows import at_most
from fedplan.grid import Settings, create_app
from fedplan.grid.store import Store
from fedplan.wire.messages import BINARY

Asked = dict[str, dict[str, Any]]
"""By call, what it asks: SQL, and the values for it."""


@contextlib.contextmanager
def noted(store: Store) -> Iterator[dict[str, Any]]:
    """What is asked in the block."""
    found: dict[str, Any] = {}

    def note(_connection: Any, _cursor: Any, sql: str, values: Any, *_: Any) -> None:
        found.setdefault(sql, values)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


async def calls(http: httpx.AsyncClient, store: Store, name: str, floats: int) -> Asked:
    """What each call of one worker asks."""
    asked: Asked = {}

    async def call(path: str, **content: Any) -> Any:
        method = "POST" if {"json", "content"} & content.keys() else "GET"
        with noted(store) as asked[path]:
            reply = await http.request(method, path, **content)
        reply.raise_for_status()
        return reply.json() if reply.headers["content-type"] == "application/json" else None

    worker = await call("authenticate", json={"model_name": name, "model_version": "1.0"})
    wish = {"worker_id": worker["worker_id"], "model": name, "version": "1.0"}
    taken = await call("cycle-request", json=wish)
    keys = {"worker_id": worker["worker_id"], "request_key": taken["request_key"]}
    await call("get-model", params=keys | {"model_id": taken["model_id"]})
    await call("get-plan", params=keys | {"plan_id": next(iter(taken["plans"].values()))})
    await call("report", params=keys, content=state(floats, 0.001), headers={"content-type": BINARY})
    await call("status", params={"name": name})
    return asked


async def _explained(folder: Path, name: str, floats: int) -> tuple[Asked, dict[str, list[str]]]:
    """What each call asks, and for each query the steps in which it is answered."""
    app = create_app(Settings(data_dir=folder))
    async with app.router.lifespan_context(app):
        store: Store = app.state.grid.store
        base = "http://grid/model-centric"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as http:
            asked = await calls(http, store, name, floats)
        plans = {}
        async with store.reading() as db:
            for sql, values in (query for found in asked.values() for query in found.items()):
                if sql.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
                    rows = await db.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
                    plans[sql] = [row.detail for row in rows]
    return asked, plans


def explained(folder: Path, name: str, floats: int, size: str) -> list[Line]:
    """Prints how each query of each call is answered; a line that says how many read a whole table.

    Args:
        folder: a grid's, which does not run.
        name: of a model there.
        floats: numbers in that model.
        size: what the grid holds.
    """
    asked, plans = asyncio.run(_explained(folder, name, floats))
    print(f"\nQuery plans, {size}:")
    for call, found in asked.items():
        print(f"  {call}")
        for sql in found.keys() & plans.keys():
            print(f"    {_short(sql)}\n      {'; '.join(plans[sql]) or 'searches nothing'}")
    scans = sum(step.startswith("SCAN") for steps in plans.values() for step in steps)
    return [at_most(f"queries that read a whole table, of {len(plans)}, {size}", 0, scans, "queries")]


def _short(sql: str) -> str:
    """A statement without its columns."""
    line = re.sub(r"\s+", " ", sql)
    line = re.sub(r"SELECT .*? FROM", "SELECT … FROM", line)
    return re.sub(r" RETURNING .*", " RETURNING …", line)[:160]
