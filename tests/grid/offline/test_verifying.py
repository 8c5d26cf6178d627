"""A checkpoint is computed once more from the reports that made it; else the checksums are looked at."""

import pytest
from sqlalchemy import update

from fedplan.errors import NotFoundError
from fedplan.grid.offline.verifying import Finding, Outcome, verify
from fedplan.grid.opening import looking_at
from fedplan.grid.store.tables import assignments, checkpoints, cycles
from tests.grid.models import diff, iterative_plan, plan_for_two, state
from tests.grid.service.test_damage import flip, report, rows, stored

KEEPING = {"keep_diffs": True}


async def findings(peer, name="m", version="1.0", number=None):
    """What is found beside the grid that runs, by their pieces."""
    async with looking_at(peer.app.state.grid.settings) as (store, blobs):
        found = [one async for one in verify(store, blobs, name, version, number)]
    return {one.what: one for one in found}


async def outcomes(peer):
    return {what: one.outcome.value for what, one in (await findings(peer)).items()}


async def train(peer, *cycles):
    """Cycles of reports of these values."""
    for number, values in enumerate(cycles, 2):
        await report(peer, *values)
        await peer.until_checkpoint(number)


ALL_GOOD = {
    "what was hosted": "good",
    "checkpoint 1": "good",
    "checkpoint 2": "equal",
    "checkpoint 3": "equal",
    "cycle 3": "good",
}


@pytest.mark.some(3)
@pytest.mark.parametrize("settings", [{}, {"sums_bytes": 0}], ids=["added as they come", "read at the end"])
@pytest.mark.parametrize(
    "hosted",
    [
        {"server": {"max_diffs": 2}},
        {"server": {"max_diffs": 2, "strategy": {"name": "fedadam", "lr": 0.5}}},
        {"server": {"max_diffs": 3, "strategy": "median"}},
        {"server": {"strategy": {"name": "fedbuff", "k": 2}}},
        {"averaging_plan": plan_for_two(), "server": {}},
        {"averaging_plan": iterative_plan(), "server": {"max_diffs": 2, "iterative_plan": True}},
        {"server": {"max_diffs": 2, "report_formats": ["int8"]}},
    ],
    ids=["fedavg", "fedadam", "median", "fedbuff", "a plan of two", "an iterative plan", "int8"],
)
async def test_a_checkpoint_whose_reports_are_kept_comes_out_bit_for_bit(open_grid, hosted, settings):
    async with open_grid(**KEEPING, **settings) as peer:
        await peer.host(**hosted)
        count = hosted["server"].get("max_diffs", 2)
        await train(peer, (0.1, 0.7, 0.2)[:count], (1 / 3, 0.9, 2 / 3)[:count])
        await report(peer, 5.0)
        assert await outcomes(peer) == ALL_GOOD
        assert (await findings(peer))["checkpoint 3"].reports == count


async def test_a_late_report_counts_as_it_did(open_grid):
    async with open_grid(**KEEPING) as peer:
        await peer.host(server={"strategy": {"name": "fedbuff", "k": 2}})
        late = await peer.join()
        await train(peer, (0.1, 0.7))
        await late.report(0.3)
        await report(peer, 0.2)
        await peer.until_checkpoint(3)
        assert await outcomes(peer) == ALL_GOOD


async def test_a_report_that_was_left_out_is_none_of_those_that_made_it(open_grid, tmp_path):
    async with open_grid(**KEEPING, sums_bytes=0) as peer:
        await peer.host(server={"min_diffs": 1, "cycle_length": 1.0})
        await report(peer, 1.0, 3.0)
        (one, _) = await rows(peer)
        path, start = stored(tmp_path, one["diff"])
        flip(path, start + 60)
        await peer.until_checkpoint(2)
        found = await findings(peer, number=2)
        assert found == {"checkpoint 2": Finding("checkpoint 2", Outcome.EQUAL, reports=1)}


async def test_without_the_reports_the_checksums_are_looked_at_and_how_many_there_were_is_told(peer):
    await peer.host(server={"max_diffs": 2})
    await train(peer, (0.1, 0.7))
    found = (await findings(peer))["checkpoint 2"]
    assert found == Finding("checkpoint 2", Outcome.GOOD, reports=2, why="0 of its 2 reports are kept")


class TestDamage:
    async def test_of_a_model_is_named_and_the_next_checkpoint_is_not_computed(self, open_grid, tmp_path):
        async with open_grid(**KEEPING) as peer:
            await peer.host(server={"max_diffs": 2})
            await train(peer, (0.1, 0.7), (0.2, 0.3))
            key = await blob_of(peer, 2)
            flip(stored(tmp_path, key)[0], 40)
            found = await findings(peer)
            assert found["checkpoint 2"].damaged == (key,)
            assert found["checkpoint 3"].outcome is Outcome.GOOD
            assert "is damaged" in found["checkpoint 3"].why
            assert {one.outcome.is_wrong for one in found.values()} == {True, False}

    async def test_of_a_kept_report_is_named(self, open_grid, tmp_path):
        async with open_grid(**KEEPING) as peer:
            await peer.host(server={"max_diffs": 2})
            await train(peer, (0.1, 0.7))
            key = (await rows(peer))[1]["diff"]
            path, start = stored(tmp_path, key)
            flip(path, start + 60)
            found = (await findings(peer))["checkpoint 2"]
            assert (found.outcome, found.damaged) == (Outcome.DAMAGED, (key,))

    async def test_of_a_plan_or_of_a_report_that_waits_is_named(self, peer, tmp_path):
        await peer.host(server={"max_diffs": 2})
        await report(peer, 0.1)
        (plan,) = {path.name for path in (tmp_path / "blobs" / "plans").iterdir()}
        (tmp_path / "blobs" / "plans" / plan).unlink()
        key = (await rows(peer))[0]["diff"]
        path, start = stored(tmp_path, key)
        path.write_bytes(path.read_bytes()[: start + 60])
        found = await findings(peer)
        assert found["what was hosted"].damaged == (f"plans/{plan}",)
        assert found["cycle 1"].damaged == (key,)


async def test_a_model_that_its_reports_do_not_make_is_different(open_grid):
    async with open_grid(**KEEPING) as peer:
        await peer.host(server={"max_diffs": 2})
        await train(peer, (0.1, 0.7))
        grid = peer.app.state.grid
        other = await grid.blobs.put("models", diff(9))
        async with grid.store.writing() as db:
            await db.execute(update(checkpoints).where(checkpoints.c.number == 2).values(blob=other))
        found = (await findings(peer))["checkpoint 2"]
        assert (found.outcome, found.why) == (Outcome.DIFFERENT, "the kept reports make another model")


async def test_blobs_of_older_grids_are_read_and_counted(open_grid, tmp_path):
    async with open_grid() as peer:
        await peer.host(server={"max_diffs": 2})
        (tmp_path / "blobs" / "models" / "old").write_bytes(state(1.0))
        async with peer.app.state.grid.store.writing() as db:
            await db.execute(update(checkpoints).values(blob="models/old"))
        assert (await findings(peer))["checkpoint 1"] == Finding("checkpoint 1", Outcome.GOOD, unchecked=1)


async def test_a_report_that_the_grid_deletes_meanwhile_is_not_missed(peer, tmp_path):
    await peer.host(server={"max_diffs": 2})
    await report(peer, 0.1)
    async with looking_at(peer.app.state.grid.settings) as (store, blobs):
        looking = verify(store, blobs, "m", "1.0")
        check = blobs.check

        async def late(key):
            if key.startswith("diffs/"):
                await report(peer, 0.2)
                await peer.until_checkpoint(2)
            return await check(key)

        blobs.check = late
        found = {one.what: one async for one in looking}
        assert found["cycle 1"].outcome is Outcome.GOOD


async def test_what_is_not_there_is_said(peer):
    await peer.host()
    for name, number, why in (("n", None, "no model 'n'"), ("m", 7, "has no checkpoint 7")):
        with pytest.raises(NotFoundError, match=why):
            await findings(peer, name, number=number)


async def test_every_report_of_a_checkpoint_is_recorded(peer):
    await peer.host(server={"max_diffs": 2})
    await train(peer, (0.1, 0.7))
    async with peer.app.state.grid.store.reading() as db:
        made = await db.scalar(cycles.select().with_only_columns(cycles.c.id).where(cycles.c.number == 1))
        recorded = list(await db.execute(assignments.select().where(assignments.c.counted_in == made)))
    assert len({row.worker_id for row in recorded}) == 2
    assert all(row.digest is not None for row in recorded)


async def blob_of(peer, number):
    async with peer.app.state.grid.store.reading() as db:
        return await db.scalar(
            checkpoints.select().with_only_columns(checkpoints.c.blob).where(checkpoints.c.number == number)
        )
