"""What a model does not keep is deleted; what is still needed is not, and what is gone says so."""

import asyncio

import numpy as np
import pytest
from sqlalchemy import update

from fedplan.grid.service.retention import retain
from fedplan.grid.store import keeping
from fedplan.grid.store.tables import assignments, checkpoints
from fedplan.wire import MetricMean, Summary, with_summary
from tests.grid.models import MODEL, base64_of, diff
from tests.grid.offline.test_verifying import findings
from tests.grid.service.test_damage import report


async def train(peer, cycles, start=1):
    for number in range(start + 1, start + cycles + 1):
        await report(peer, 1)
        await peer.until_checkpoint(number)


async def there(peer, name="m"):
    """The numbers of the checkpoints that can be retrieved."""
    return [one["number"] for one in reversed((await peer.status(name))["checkpoints"])]


async def until_there(peer, numbers):
    await peer.until(lambda model: [one["number"] for one in reversed(model["checkpoints"])] == numbers)


def stored(folder, kind="models"):
    return [path.name for path in (folder / "blobs" / kind).glob("*")]


async def test_all_checkpoints_are_kept_if_nothing_else_is_said(peer, tmp_path):
    await peer.host()
    await train(peer, 3)
    assert await there(peer) == [1, 2, 3, 4]
    assert len(stored(tmp_path)) == 4


@pytest.mark.parametrize(
    ("kept", "numbers"),
    [(2, [5, 6]), ({"last": 1, "every": 2}, [2, 4, 6]), ({"last": 9}, [1, 2, 3, 4, 5, 6])],
)
async def test_the_newest_and_every_nth_stay(open_grid, tmp_path, kept, numbers):
    async with open_grid() as peer:
        await peer.host(server={"max_diffs": 1, "keep_checkpoints": kept, "strategy": "fedadam"})
        await train(peer, 5)
        await until_there(peer, numbers)
    assert len(stored(tmp_path)) == len(numbers)
    assert len(stored(tmp_path, "states")) == len([number for number in numbers if number > 1])
    async with open_grid() as peer:
        assert await there(peer) == numbers
        assert (await peer.status())["cycle"]["number"] == 6
        await train(peer, 1, start=6)


async def test_who_asks_for_one_that_was_deleted_is_told_so_and_which_there_are(peer):
    await peer.host(server={"max_diffs": 1, "keep_checkpoints": 2})
    await train(peer, 3)
    await until_there(peer, [3, 4])
    query = {"name": "m", "checkpoint": "2"}
    reply = await peer.http.get("/model-centric/retrieve-model", params=query)
    assert reply.status_code == 404
    told = reply.json()["error"]
    assert told.startswith("checkpoint 2 of the model 'm' was deleted on 2")
    assert told.endswith("(keep_checkpoints); there are 3, 4")
    np.testing.assert_array_equal((await peer.checkpoint(checkpoint="3"))[1], MODEL[1] - 2)


async def events(peer, kind="discarded"):
    found = (await peer.http.get("/model-centric/events", params={"last": 1000})).json()["events"]
    return [event for event in found if event["kind"] == kind]


async def test_an_event_says_what_was_deleted_why_and_by_whom(peer):
    await peer.host(server={"max_diffs": 1, "keep_checkpoints": 2, "keep_diffs": 1})
    await train(peer, 3)
    await until_there(peer, [3, 4])
    await peer.until(lambda model: model["cycle"]["number"] == 4)
    async with asyncio.timeout(10):
        while len(found := await events(peer)) < 4:
            await asyncio.sleep(0.01)
    told = [
        (event["details"]["what"], event["details"].get("checkpoints"), event.get("cycle")) for event in found
    ]
    assert sorted(told, key=str) == [
        ("checkpoints", [1], None),
        ("checkpoints", [2], None),
        ("reports", None, 1),
        ("reports", None, 2),
    ]
    assert {event["actor"] for event in found} == {"grid"}
    assert (
        "keep_checkpoints" in found[0]["cause"]
        or "reports are kept of the 1 latest cycle" in found[0]["cause"]
    )


async def test_history_goes_on_telling_of_it(peer):
    await peer.host(server={"max_diffs": 1, "keep_checkpoints": 1})
    await train(peer, 3)
    await until_there(peer, [4])
    reply = await peer.http.get("/model-centric/history", params={"name": "m", "version": "1.0"})
    assert [row["checkpoint"] for row in reply.json()["rows"]] == [1, 2, 3]


async def test_the_best_stays(peer):
    best = {"metric": "update_norm", "mode": "max"}
    await peer.host(server={"max_diffs": 1, "keep_checkpoints": 1, "best": best, "metrics": ["update_norm"]})
    for number, value in enumerate((1, 9, 2, 3), 2):
        await report(peer, value)
        await peer.until_checkpoint(number)
    await until_there(peer, [2, 5])  # the diff of 9 was a step from checkpoint 2
    found = await peer.checkpoint(checkpoint="best")
    np.testing.assert_array_equal(found[1], MODEL[1] - 1)


async def test_what_an_open_cycle_starts_from_stays(peer):
    """Also where that is not the newest, as after a checkpoint that was put in by hand."""
    await peer.host(server={"max_diffs": 1, "keep_checkpoints": 1})
    grid = peer.app.state.grid
    process = await grid.known.find("m", "1.0")
    for number in (2, 3):
        key = await grid.keep("models", b"x")
        async with grid.store.writing() as db:
            await db.execute(
                checkpoints.insert().values(process_id=process.id, number=number, blob=key, created_at=0.0)
            )
    worker = await peer.join()
    await retain(grid, process)
    assert await there(peer) == [1, 3]
    assert (await worker.get("get-model", model_id=worker.accepted["model_id"])).status_code == 200


async def test_with_fedbuff_those_stay_from_which_a_late_report_may_come(peer):
    strategy = {"name": "fedbuff", "k": 1, "staleness": 2}
    await peer.host(server={"strategy": strategy, "keep_checkpoints": 1})
    late = await peer.join()
    await train(peer, 2)
    assert await there(peer) == [1, 2, 3]
    assert (await late.report(1)).status_code == 200
    await peer.until_checkpoint(4)
    await until_there(peer, [2, 3, 4])


async def test_a_blob_that_another_checkpoint_has_too_is_not_deleted(peer, tmp_path):
    await peer.host(server={"max_diffs": 1, "keep_checkpoints": "all"})
    await train(peer, 2)
    grid = peer.app.state.grid
    async with grid.store.writing() as db:
        process = await grid.known.find("m", "1.0")
        first, _, last = await keeping.checkpoints_there(db, process.id)
        await db.execute(update(checkpoints).where(checkpoints.c.id == last.id).values(blob=first.blob))
    kept = process.server_config.model_copy(update={"keep_checkpoints": 1})
    object.__setattr__(process, "server_config", kept)
    await retain(grid, process)
    assert await there(peer) == [3]
    np.testing.assert_array_equal((await peer.checkpoint())[1], MODEL[1])


class TestDiffs:
    async def kept(self, peer):
        """The numbers of the cycles whose diffs are in rows and on disk."""
        grid = peer.app.state.grid
        async with grid.store.reading() as db:
            rows = await db.execute(assignments.select().where(assignments.c.diff.is_not(None)))
            found = {row.counted_in: row.diff for row in rows}
        for key in found.values():
            await grid.blobs.get(key)
        assert {int(group) for group in await grid.blobs.groups(f"diffs/{grid.store.id}")} == set(found)
        return sorted(found)

    @pytest.mark.parametrize(
        ("grids", "models", "numbers"),
        [(True, False, []), (False, True, [1, 2, 3]), (False, 2, [2, 3]), (True, None, [1, 2, 3])],
    )
    async def test_are_kept_as_the_model_says_and_else_as_the_grid(self, open_grid, grids, models, numbers):
        server = {"max_diffs": 1} | ({} if models is None else {"keep_diffs": models})
        async with open_grid(keep_diffs=grids) as peer:
            await peer.host(server=server)
            await train(peer, 3)
            await peer.until(lambda model: model["cycle"]["number"] == 4)
            grid = peer.app.state.grid
            await retain(grid, await grid.known.find("m", "1.0"))
            assert await self.kept(peer) == numbers
        async with open_grid(keep_diffs=grids) as peer:
            assert await self.kept(peer) == numbers

    async def test_and_checkpoints_that_are_gone_are_no_fault_to_who_verifies(self, peer):
        await peer.host(server={"max_diffs": 1, "keep_diffs": True, "keep_checkpoints": 2})
        await train(peer, 3)
        await until_there(peer, [3, 4])
        found = await findings(peer)
        assert {what: one.outcome.value for what, one in found.items()} == {
            "what was hosted": "good",
            "checkpoint 1": "deleted",
            "checkpoint 2": "deleted",
            "checkpoint 3": "good",
            "checkpoint 4": "equal",
            "cycle 4": "good",
        }
        assert "checkpoint 2, with which its cycle began, is deleted" in found["checkpoint 3"].why


async def test_a_report_with_metrics_still_counts_for_the_best_after_a_start(open_grid):
    """What is known of deleted checkpoints is in the history."""
    best = {"metric": "update_norm", "mode": "min"}
    server = {"max_diffs": 1, "keep_checkpoints": 1, "best": best, "metrics": ["update_norm"]}
    async with open_grid() as peer:
        await peer.host(server=server)
        await report(peer, 1)
        await peer.until_checkpoint(2)
    async with open_grid() as peer:
        told = with_summary(diff(3), Summary(metrics={"loss": MetricMean(1.0, 1.0)}))
        worker = await peer.join()
        assert (await worker.report(diff=base64_of(told))).status_code == 200
        await peer.until_checkpoint(3)
        await until_there(peer, [1, 3])
