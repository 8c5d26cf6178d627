"""Every statement that the grid sends: it uses an index on SQLite, and it is SQL that PostgreSQL knows."""

import re

import pytest
from sqlalchemy import event
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from fedplan.grid.service.events import EventKeeper
from fedplan.grid.store.tables import metadata
from tests.grid.databases import only_sqlite
from tests.grid.models import iterative_plan

READS_A_SMALL_TABLE = re.compile(r"^SELECT .*FROM (clock|replicas|unused_blobs)$", re.DOTALL)
LISTS_ALL_MODELS = re.compile(r"FROM processes (ORDER BY|LEFT OUTER JOIN)")


@pytest.fixture
async def sent(peer):
    """What is sent to the database while a model lives its whole life: (statement as built, SQL, values)."""
    sent = []
    engine = peer.app.state.grid.store.engine

    @event.listens_for(engine, "before_execute")
    def note_built(connection, statement, multiparams, params, options):
        sent.append([statement, None, None])

    @event.listens_for(engine, "before_cursor_execute")
    def note_sql(connection, cursor, sql, parameters, context, many):
        if sent and sent[-1][1] is None:
            sent[-1][1:] = [sql, parameters]

    server = {
        "min_workers": 1,
        "max_workers": 3,
        "cycle_length": 3600,
        "min_diffs": 1,
        "max_diffs": 2,
        "num_cycles": 2,
        "do_not_reuse_workers_until_cycle": 1,
        "iterative_plan": True,
        "keep_checkpoints": 2,
        "keep_diffs": 1,
    }
    await peer.host("m", server=server, averaging_plan=iterative_plan(), protocols={"p": ""})
    await peer.host("short", server={"cycle_length": 0.05})
    for number in (1, 2):
        workers = [await peer.join(), await peer.join()]
        for worker in workers:
            accepted = worker.accepted
            await worker.get("get-model", model_id=accepted["model_id"])
            await worker.get("get-plan", plan_id=accepted["plans"]["training_plan"])
            await worker.get("get-protocol", protocol_id=accepted["protocols"]["p"])
            await worker.report(number)
        await peer.until_checkpoint(number + 1)
    await peer.ask(await peer.authenticate())
    await controlled(peer)
    await peer.checkpoint(checkpoint="2")
    await peer.http.get("/model-centric/status")
    await peer.http.get("/model-centric/why", params={"name": "m", "worker": "w"})
    for query in ({}, {"after": "0"}, {"name": "m", "version": "1.0"}):
        await peer.http.get("/model-centric/events", params=query)
    await EventKeeper(peer.app.state.grid)._trim()
    return [entry for entry in sent if entry[1]]


async def controlled(peer):
    """All that the owner of a model may do with it; it is gone at the end."""
    await peer.host("c", server={"cycle_length": 3600, "num_cycles": 3, "max_diffs": 1})
    await (await peer.join("c")).report(1)
    await peer.until_checkpoint(2, "c")
    for call, more in (
        ("set", {"server_config": {"max_diffs": 2}}),
        ("pause", {}),
        ("resume", {}),
        ("extend", {"seconds": 60, "cycles": 1}),
        ("promote", {"checkpoint": 1}),
        ("roll-back", {"checkpoint": 2}),
        ("stop", {}),
        ("extend", {"cycles": 1}),
        ("delete", {"force": True}),
    ):
        reply = await peer.post(call, name="c", version="1.0", **more)
        assert reply.status_code == 200, reply.text


@only_sqlite
async def test_no_call_scans_a_table(peer, sent):
    statements = {
        sql: parameters for _, sql, parameters in sent if sql.split()[0] in ("SELECT", "UPDATE", "DELETE")
    }
    assert len(statements) > 25
    async with peer.app.state.grid.store.reading() as db:
        for sql, parameters in statements.items():
            if READS_A_SMALL_TABLE.search(sql):
                continue
            plan = await db.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)
            steps = [row[3] for row in plan]
            if LISTS_ALL_MODELS.search(sql) and "processes.name = ?" not in sql:
                steps = [step for step in steps if not step.startswith("SCAN processes")]
            assert not [step for step in steps if step.startswith("SCAN")], (sql, steps)


async def test_every_statement_is_postgresql_too(sent):
    dialect = postgresql.dialect()
    compiled = {
        str(statement.compile(dialect=dialect)) for statement, _, _ in sent if hasattr(statement, "compile")
    }
    assert len(compiled) > 25
    locking = [sql for sql in compiled if sql.endswith("FOR UPDATE")]
    assert len(locking) >= 2
    assert all("FROM cycles" in sql for sql in locking)


def test_every_table_can_be_made_on_postgresql():
    for table in metadata.sorted_tables:
        sql = str(CreateTable(table).compile(dialect=postgresql.dialect()))
        assert "id BIGSERIAL" in sql or table.name in (
            "keys",
            "plan_variants",
            "waiting",
            "replicas",
            "clock",
            "chores",
            "secure_rounds",
            "secure_messages",
            "webhooks",
            "configs",
            "unused_blobs",
        )
