import asyncio
import json
import stat
from unittest.mock import ANY

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from fedplan.errors import ConfigError
from fedplan.federation import Task
from fedplan.grid.records import HostedPlan, Lease, Report, Variant
from fedplan.grid.store import Store, catalogue, participation, replicas, reports, rounds, times
from fedplan.grid.store.tables import keys, metadata
from fedplan.plan import Role
from fedplan.wire.authentication import AuthenticationConfig
from fedplan.wire.config import ServerConfig
from tests.grid.databases import database_of, only_sqlite


@pytest.fixture
async def store(url):
    store = await Store.open(url)
    yield store
    await store.aclose()


async def names(store):
    async with store.reading() as db:
        return sorted(await db.scalars(select(keys.c.name)))


def key(name):
    return keys.insert().values(name=name, value=b"")


async def test_the_migrations_make_the_tables(store):
    def compare(connection):
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, metadata)

    async with store.reading() as db:
        assert await db.run_sync(compare) == []


async def until_0013(db):
    """Takes away what later migrations add. SQLite's tables stay such as give no id twice."""
    await db.execute(text("DROP TABLE secure_messages"))
    await db.execute(text("DROP TABLE secure_rounds"))
    await db.execute(text("DROP TABLE spendings"))
    await db.execute(text("DROP TABLE chores"))
    await db.execute(text("DROP TABLE webhooks"))
    for column in ("blob", "state"):
        await db.execute(text(f"DROP INDEX ix_checkpoints_{column}"))
    await db.execute(text("ALTER TABLE checkpoints DROP COLUMN deleted_at"))
    await db.execute(text("DROP TABLE events"))
    await db.execute(text("DROP TABLE configs"))
    await db.execute(text("DROP TABLE unused_blobs"))
    await db.execute(text("DROP INDEX ix_cycles_checkpoint_id"))
    for table, columns in (
        ("processes", ("revision", "restarted_after")),
        ("checkpoints", ("cycle", "source", "dropped")),
        ("assignments", ("lapses", "declined")),
        ("cycles", ("revision", "paused_at", "ordered_end", "stage", "places", "gone", "judged")),
    ):
        for column in columns:
            await db.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))


async def until_0011(db):
    """Makes the tables that later migrations change what they were before."""
    await until_0013(db)
    await db.execute(text("ALTER TABLE processes DROP COLUMN measured"))
    await db.execute(text("DROP TABLE clock"))
    await db.execute(text("ALTER TABLE cycles DROP COLUMN lease_counter"))
    await db.execute(text("ALTER TABLE cycles ADD COLUMN lease_until DOUBLE PRECISION"))
    await db.execute(text("ALTER TABLE replicas DROP COLUMN counter"))
    await db.execute(text("ALTER TABLE replicas ADD COLUMN until DOUBLE PRECISION"))


async def test_a_lease_that_a_replica_of_before_left_is_free(store, url):
    async with store.writing() as db:
        await until_0011(db)
        await db.execute(text("UPDATE alembic_version SET version_num = '0011'"))
        await db.execute(text("INSERT INTO replicas VALUES ('dead', 9e9)"))
        await db.execute(
            text(
                "INSERT INTO processes (id, name, version, client_config, server_config, layout, created_at)"
                " VALUES (1, 'm', '1', '{}', '{}', '[]', 0)"
            )
        )
        await db.execute(
            text(
                "INSERT INTO checkpoints (id, process_id, number, blob, created_at)"
                " VALUES (1, 1, 1, 'models/x', 0)"
            )
        )
        await db.execute(
            text(
                "INSERT INTO cycles (id, process_id, number, phase, checkpoint_id, opened_at, occupied,"
                " reported, lease_owner, lease_until) VALUES (7, 1, 1, 'closing', 1, 0, 1, 1, 'dead', 9e9)"
            )
        )
    again = await Store.open(url)
    async with again.writing() as db:
        assert await rounds.due(db, 0) == [Lease(7, None, 0)]
        assert await replicas.counters(db) == {}
        assert await times.read(db) == times.Reading(ANY if url.startswith("postgresql") else None, 0.0, 0)
    await again.aclose()


async def test_a_database_of_the_first_tables_is_brought_up_to_date_with_what_it_holds(store, url):
    """As a grid of the first schema left it."""
    async with store.writing() as db:
        await until_0011(db)
        await db.execute(text("DROP TABLE api_tokens"))
        await db.execute(text("ALTER TABLE processes DROP COLUMN changing"))
        await db.execute(text("ALTER TABLE processes DROP COLUMN frozen"))
        await db.execute(text("ALTER TABLE plan_variants DROP COLUMN error"))
        await db.execute(text("ALTER TABLE plans DROP COLUMN missing"))
        await db.execute(text("ALTER TABLE processes DROP COLUMN roles"))
        await db.execute(text("ALTER TABLE checkpoints DROP COLUMN state"))
        await db.execute(text("ALTER TABLE cycles DROP COLUMN summary"))
        await db.execute(text("DROP INDEX ix_assignments_counted_in"))
        await db.execute(text("ALTER TABLE assignments DROP COLUMN counted_in"))
        await db.execute(text("ALTER TABLE processes DROP COLUMN evaluates"))
        await db.execute(text("ALTER TABLE cycles DROP COLUMN task"))
        await db.execute(text("ALTER TABLE cycles DROP COLUMN evaluators"))
        await db.execute(text("DROP TABLE replicas"))
        await db.execute(text("ALTER TABLE cycles DROP COLUMN damaged"))
        for column in ("aside", "grants", "digest", "replica", "damaged"):
            await db.execute(text(f"ALTER TABLE assignments DROP COLUMN {column}"))
        await db.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        layout = json.dumps([[[3], "float32"], [[], "float32"]])
        config = json.dumps({"max_diffs": 3})
        await db.execute(
            text("INSERT INTO processes VALUES (1, 'm', '1.0', '{}', :config, :layout, NULL, 0)"),
            {"config": config, "layout": layout},
        )
        await db.execute(text("INSERT INTO plans VALUES (1, 1, 'p'), (2, 1, 'evaluation_plan')"))
        await db.execute(
            text("INSERT INTO plan_variants VALUES (1, 'list', 'plans/x'), (2, 'list', 'plans/y')")
        )
        await db.execute(
            text("INSERT INTO checkpoints VALUES (1, 1, 1, 'models/x', 0), (2, 1, 2, 'models/y', 0)")
        )
        await db.execute(
            text(
                "INSERT INTO cycles VALUES (5, 1, 1, 'failed', 1, 0, NULL, 2, 1, NULL, NULL, NULL, NULL),"
                " (6, 1, 2, 'done', 1, 0, NULL, 2, 1, NULL, NULL, NULL, NULL),"
                " (7, 1, 3, 'open', 2, 0, NULL, 2, 1, NULL, NULL, NULL, NULL)"
            )
        )
        await db.execute(text("INSERT INTO assignments VALUES (1, 7, 'w', 'w', 'k', 0, false, 5, 'diffs/x')"))
        await db.execute(text("INSERT INTO assignments VALUES (2, 7, 'v', 'v', 'l', 0, false, NULL, NULL)"))
    again = await Store.open(url)
    async with again.reading() as db:
        process = await catalogue.get_process(db, 1)
        hosted = await catalogue.hosted(db, process)
        assert hosted.plans == {
            "p": HostedPlan(1, {"list": Variant("plans/x", None)}, {}),
            "evaluation_plan": HostedPlan(2, {"list": Variant("plans/y", None)}, {}),
        }
        assert process.evaluates
        assert (process.changing, process.frozen, process.measured) == (None, None, None)
        assert process.roles == (Role.TRAINED, Role.TRAINED)
        assert process.server_config == ServerConfig(max_diffs=3, weighting="uniform")
        assert await reports.of_cycle(db, 7) == [Report("diffs/x", 0)]
        assert (await participation.get_cycle(db, 7)).task is Task.TRAINING
        assert (await catalogue.get_checkpoint(db, 1)).state is None
        assert [(one.number, one.cycle) for one in await catalogue.checkpoints_of(db, 1)] == [
            (2, 2),
            (1, None),
        ]
    await again.aclose()


async def test_models_that_were_hosted_before_tokens_had_to_expire_go_on_taking_others(store, url):
    configs = {
        1: {"max_diffs": 3, "authentication": {"secret": "s" * 32}},
        2: {"authentication": {"endpoint": "https://a.example"}},
        3: {"max_diffs": 3},
    }
    async with store.writing() as db:
        await until_0011(db)
        await db.execute(text("DROP TABLE api_tokens"))
        await db.execute(text("UPDATE alembic_version SET version_num = '0009'"))
        for id, config in configs.items():
            await db.execute(
                text(
                    "INSERT INTO processes "
                    "(id, name, version, client_config, server_config, layout, created_at) "
                    "VALUES (:id, 'm', :version, '{}', :config, '[]', 0)"
                ),
                {"id": id, "version": f"{id}", "config": json.dumps(config)},
            )
    again = await Store.open(url)
    async with again.reading() as db:
        found = {id: (await catalogue.get_process(db, id)).server_config for id in configs}
    await again.aclose()
    assert found[1] == ServerConfig(
        max_diffs=3, authentication=AuthenticationConfig(secret="s" * 32, require_exp=False)
    )
    assert [found[id] for id in (2, 3)] == [ServerConfig.model_validate(configs[id]) for id in (2, 3)]


async def test_checkpoints_of_before_know_the_cycle_that_made_them(store, url):
    async with store.writing() as db:
        await until_0013(db)
        await db.execute(text("UPDATE alembic_version SET version_num = '0013'"))
        await db.execute(
            text(
                "INSERT INTO processes (id, name, version, client_config, server_config, layout, created_at)"
                " VALUES (1, 'm', '1', '{}', '{}', '[]', 0), (2, 'm', '2', '{}', '{}', '[]', 0)"
            )
        )
        await db.execute(
            text(
                "INSERT INTO checkpoints (id, process_id, number, blob, created_at) VALUES"
                " (1, 1, 1, 'a', 0), (2, 2, 1, 'b', 0), (3, 1, 2, 'c', 0), (4, 1, 3, 'd', 0)"
            )
        )
        await db.execute(
            text(
                "INSERT INTO cycles (id, process_id, number, phase, checkpoint_id, opened_at, occupied,"
                " reported, task) VALUES (1, 1, 1, 'failed', 1, 0, 1, 1, 'training'),"
                " (2, 1, 2, 'done', 1, 0, 1, 1, 'training'), (3, 2, 1, 'open', 2, 0, 1, 1, 'training'),"
                " (4, 1, 3, 'done', 3, 0, 1, 1, 'training'), (5, 1, 4, 'done', 4, 0, 1, 1, 'evaluation')"
            )
        )
    again = await Store.open(url)
    async with again.reading() as db:
        made = {
            (id, one.number): one.cycle for id in (1, 2) for one in await catalogue.checkpoints_of(db, id)
        }
    await again.aclose()
    assert made == {(1, 1): None, (1, 2): 2, (1, 3): 3, (2, 1): None}


async def test_looking_at_a_database_changes_nothing_and_needs_this_programs_schema(store, url):
    looking = await Store.look(url)
    async with looking.reading() as db:
        assert await db.scalar(select(keys.c.name)) == "grid"
    await looking.aclose()
    for version, why in (
        ("0013", "0013 of an older fedplan, and this one needs"),
        ("9999", "9999 of a newer fedplan"),
    ):
        async with store.writing() as db:
            await db.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))
        with pytest.raises(ConfigError, match=why):
            await Store.look(url)
    async with store.writing() as db:
        await db.execute(text("DELETE FROM alembic_version"))
    with pytest.raises(ConfigError, match="no tables of a grid"):
        await Store.look(url)


@only_sqlite
async def test_a_database_that_is_not_there_is_not_made_to_be_looked_at(tmp_path):
    with pytest.raises(ConfigError, match="there is no database"):
        await Store.look(f"sqlite:///{tmp_path}/none.db")
    assert list(tmp_path.iterdir()) == []


async def test_a_database_of_a_newer_program_is_refused_in_a_line_and_left_as_it_is(store, url):
    async with store.writing() as db:
        await db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(
        ConfigError, match=r"schema 9999 of a newer fedplan, and this one knows \d{4} at most"
    ):
        await Store.open(url)
    async with store.reading() as db:
        assert await db.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


@only_sqlite
async def test_other_users_cannot_read_the_database(tmp_path):
    file = tmp_path / "open to all"
    for _ in range(2):
        store = await Store.open(f"sqlite:///{file}")
        async with store.writing() as db:
            await db.execute(key("a"))
            await db.execute(keys.delete().where(keys.c.name == "a"))
        written = sorted(tmp_path.glob("open to all*"))
        assert len(written) > 1
        assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
        await store.aclose()
        file.chmod(0o644)  # as an older grid left it


async def test_opening_again_changes_nothing(url, store):
    again = await Store.open(url)
    assert again.secret == store.secret
    assert len(store.secret) == 32
    await again.aclose()


async def test_replicas_that_start_at_once_agree(url):
    stores = await asyncio.gather(*(Store.open(url) for _ in range(5)))
    assert len({store.secret for store in stores}) == 1
    await asyncio.gather(*(store.aclose() for store in stores))


async def test_every_grid_has_its_own_secret(store, tmp_path):
    other = await Store.open(await database_of(tmp_path / "other"))
    assert other.secret != store.secret
    await other.aclose()


@only_sqlite
async def test_what_is_written_is_on_disk_at_the_end_of_the_block(store, url):
    async with store.writing() as db:
        await db.execute(key("a"))
        assert await names(store) == ["grid"]
    assert await names(store) == ["a", "grid"]
    async with store.reading() as db:
        assert await db.scalar(text("PRAGMA journal_mode")) == "wal"
        assert await db.scalar(text("PRAGMA synchronous")) == 2


async def test_what_was_written_is_undone_when_the_block_raises(store):
    async def write(*names):
        async with store.writing() as db:
            for name in names:
                await db.execute(key(name))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await write("a")
    with pytest.raises(IntegrityError):
        await write("b", "b")
    async with store.writing() as db:
        await db.execute(key("c"))
    assert await names(store) == ["c", "grid"]


async def test_what_was_written_is_undone_when_the_block_is_cancelled(store):
    reached = asyncio.Event()

    async def write():
        async with store.writing() as db:
            await db.execute(key("a"))
            reached.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(write())
    await reached.wait()
    task.cancel()
    await asyncio.wait([task])
    async with store.writing() as db:
        await db.execute(key("b"))
    assert await names(store) == ["b", "grid"]


@only_sqlite
async def test_transactions_of_one_process_and_of_several_wait_for_each_other(store, url):
    other = await Store.open(url)
    log = []

    async def write(through, name):
        async with through.writing() as db:
            log.append(name)
            await db.execute(key(name))
            await asyncio.sleep(0.01)
            log.append(name)

    await asyncio.gather(*(write(through, f"{n}") for n, through in enumerate([store, other] * 4)))
    assert all(log[at] == log[at + 1] for at in range(0, len(log), 2))
    assert len(await names(store)) == 9
    await other.aclose()
