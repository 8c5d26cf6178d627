"""What the grid writes down of what happens: each kind of event, with its cause and who did it."""

import asyncio

import pytest
from sqlalchemy import select

from fedplan.grid.identity.access import make_token, revoke_token
from fedplan.grid.observing.events import MEANINGS, Kind
from fedplan.grid.records import Scope
from fedplan.grid.service.events import EventKeeper
from fedplan.grid.store import events
from fedplan.grid.store.tables import events as table
from fedplan.wire.messages import worker_name
from tests.grid.clock import Clock
from tests.grid.models import plan_that_fails_when_diffs_agree
from tests.grid.service import test_damage as damage
from tests.grid.service import test_evaluating as evaluating
from tests.grid.service.test_vacating import declined


async def written(peer, *kinds):
    """The events of some kinds, or all; also those that a reader does not see yet (PostgreSQL)."""
    async with peer.app.state.grid.store.reading() as db:
        rows = await db.execute(select(table).order_by(table.c.written_by, table.c.id))
        found = [events._read(row) for row in rows.mappings()]
    return [one for one in found if not kinds or one.event.kind in kinds]


async def until_written(peer, kind, number=1):
    """The events of a kind, once there are so many: bundled ones come a moment later."""
    async with asyncio.timeout(5):
        while len(found := await written(peer, kind)) < number:
            await asyncio.sleep(0.01)
    return [one.event for one in found]


def name_of(worker):
    return worker_name(worker.worker_id)


def kinds(found):
    return [one.event.kind for one in found]


async def test_the_life_of_a_model(peer):
    await peer.host(server={"max_diffs": 2, "num_cycles": 2})
    one, two = await peer.join(), await peer.join()
    await one.report(1)
    await two.report(2)
    await peer.until_checkpoint(2)
    found = await written(peer)
    assert kinds(found) == [
        *(Kind.HOSTED, Kind.JOINED, Kind.JOINED, Kind.REPORTED, Kind.REPORTED, Kind.CLOSED),
        *(Kind.AVERAGED, Kind.OPENED),
    ]
    assert {(one.event.model, one.event.version) for one in found} == {("m", "1.0")}
    assert [one.event.cycle for one in found] == [1, 1, 1, 1, 1, 1, 1, 2]
    assert [one.event.actor.role for one in found] == ["anybody", *4 * ["worker"], *3 * ["grid"]]
    assert [one.event.actor.id for one in found[1:5]] == 2 * [name_of(one), name_of(two)]
    assert found[-1].event.actor.id == peer.app.state.grid.replica
    assert found[5].event.cause == "2 reports came, which is enough"
    assert found[6].event.cause == "checkpoint 2 was made of 2 reports"
    assert found[6].event.details == {"checkpoint": 2, "reports": 2}
    assert [one.at for one in found] == sorted(one.at for one in found)


async def test_an_event_belongs_to_its_request(peer):
    await peer.host()
    worker_id = await peer.authenticate()
    message = {"worker_id": worker_id, "model": "m", "version": "1.0"}
    await peer.http.post("/model-centric/cycle-request", json=message, headers={"x-request-id": "mine"})
    (joined,) = await written(peer, Kind.JOINED)
    assert (joined.request_id, joined.address) == ("mine", "127.0.0.1")


async def test_no_event_tells_a_workers_id(peer):
    await peer.host()
    worker = await peer.join()
    await worker.report(1)
    await worker.report(2)
    await until_written(peer, Kind.REFUSED)
    assert worker.worker_id not in repr(await written(peer))
    assert worker.request_key not in repr(await written(peer))


async def test_what_is_sent_again_happens_once(peer):
    await peer.host(server={"max_diffs": 2})
    worker = await peer.join()
    await peer.ask(worker.worker_id)
    await worker.report(1)
    await worker.report(1)
    assert kinds(await written(peer)) == [Kind.HOSTED, Kind.JOINED, Kind.REPORTED]


async def test_a_model_that_is_not_hosted_is_no_event(peer):
    await peer.host()
    assert (await peer.post("host-training")).status_code == 400
    assert len(await written(peer, Kind.HOSTED)) == 1


class TestARefusal:
    async def test_of_a_place_says_which_workers_and_why(self, peer):
        await peer.host(server={"max_workers": 1, "max_diffs": 1, "pool_selection": "iterate"})
        await peer.join()
        workers = [await peer.authenticate() for _ in range(3)]
        for worker_id in workers:
            assert (await peer.ask(worker_id))["status"] == "rejected"
        (refused,) = await until_written(peer, Kind.REFUSED)
        assert (refused.cause, refused.cycle) == ("the cycle is full", 1)
        assert refused.actor.role == "several"
        assert (refused.details["what"], refused.details["times"]) == ("a place", 3)
        assert refused.details["workers"] == [worker_name(id) for id in workers]

    async def test_of_a_report_says_what_is_wrong_with_it(self, peer):
        await peer.host()
        worker = await peer.join()
        await worker.report(diff="x")
        (refused,) = await until_written(peer, Kind.REFUSED)
        assert refused.cause == "the diff is not base64"
        assert (refused.model, refused.cycle, refused.actor.id) == ("m", 1, name_of(worker))
        assert refused.details == {"what": "a report"}

    async def test_of_one_whose_keys_open_nothing_names_no_model(self, peer):
        await peer.host()
        worker = await peer.join()
        await worker.report(request_key="k")
        (refused,) = await until_written(peer, Kind.REFUSED)
        assert (refused.model, refused.actor.role) == (None, "anybody")

    async def test_of_a_workers_token_says_why(self, peer):
        await peer.host(server={"max_diffs": 1, "authentication": {"secret": "s" * 32}})
        await peer.post("authenticate", model_name="m", model_version="1.0", auth_token="x")
        (refused,) = await until_written(peer, Kind.REFUSED)
        assert "no JSON Web Token" in refused.cause
        assert (refused.model, refused.details) == ("m", {"what": "authentication"})

    async def test_of_an_id_that_is_none_is_told_too(self, peer):
        await peer.host()
        reply = await peer.post("cycle-request", worker_id="w", model="m", version="1.0")
        assert reply.status_code == 401
        (refused,) = await until_written(peer, Kind.REFUSED)
        assert "not one that this grid gave out" in refused.cause

    async def test_of_a_thousand_is_a_few_rows(self, peer):
        await peer.host(server={"max_workers": 1, "max_diffs": 1, "pool_selection": "iterate"})
        await peer.join()
        worker_id = await peer.authenticate()
        for _ in range(300):
            await peer.ask(worker_id)
        rows = await until_written(peer, Kind.REFUSED)
        assert len(rows) < 20


class TestAWorkerThatLeaves:
    async def test_by_declining_is_told_with_its_words(self, peer):
        await peer.host(server={"max_workers": 2})
        worker = await peer.join()
        await declined(worker, reason="my\ndata \x00 is away")
        (event,) = (one.event for one in await written(peer, Kind.DECLINED))
        assert (event.cause, event.actor.id) == ("my\\ndata \\x00 is away", name_of(worker))
        await declined(worker)
        assert len(await written(peer, Kind.DECLINED)) == 1

    async def test_and_ends_the_wait_closes_the_cycle(self, peer):
        await peer.host(server={"min_workers": 1})
        stays, goes = await peer.join(), await peer.join()
        await stays.report(1.0)
        await declined(goes)
        await peer.until_checkpoint(2)
        found = [one.event for one in await written(peer)]
        assert [event.kind for event in found][4:7] == [Kind.DECLINED, Kind.CLOSED, Kind.AVERAGED]
        assert found[5].cause == "no worker is at it any more"

    async def test_by_silence_is_told_with_others(self, open_grid):
        clock = Clock()
        async with open_grid(clock=clock) as peer:
            await peer.host(server={"place_timeout": 60})
            workers = [await peer.join() for _ in range(3)]
            clock.now += 61
            (gone,) = await until_written(peer, Kind.GONE)
            assert gone.details == {"times": 3, "workers": [name_of(worker) for worker in workers]}
            assert gone.cause == "no report came within place_timeout, 60 s"
            assert gone.actor.role == "grid"

    async def test_when_its_cycle_is_extended_is_told_with_it(self, open_grid):
        clock = Clock()
        async with open_grid(clock=clock) as peer:
            await peer.host(server={"cycle_length": 60, "min_diffs": 2})
            reports, silent = await peer.join(), await peer.join()
            await reports.report(1)
            clock.now += 61
            (extended,) = await until_written(peer, Kind.EXTENDED)
            assert extended.cause == "its time was over, with 1 report of the 2 needed"
            assert extended.details == {"times": 1, "workers": [name_of(silent)]}

    async def test_and_comes_again_is_told_so(self, peer):
        await peer.host(server={"max_workers": 1, "max_diffs": 1})
        worker = await peer.join()
        await declined(worker)
        await peer.ask(worker.worker_id)
        found = [one.event for one in await written(peer, Kind.JOINED)]
        assert [event.cause for event in found] == [
            "it asked, and a place was free",
            "it asked again, having lost its place, and one was free",
        ]


async def test_a_cycle_that_time_closes(open_grid):
    clock = Clock()
    async with open_grid(clock=clock) as peer:
        await peer.host(server={"cycle_length": 60})
        await (await peer.join()).report(1)
        clock.now += 61
        (closed,) = await until_written(peer, Kind.CLOSED)
        assert closed.cause == "its time was over, with 1 report"


async def test_a_cycle_that_fails_says_why(peer):
    await peer.host(server={"max_diffs": 2}, averaging_plan=plan_that_fails_when_diffs_agree())
    for _ in range(2):
        await (await peer.join()).report(1)
    (failed,) = await until_written(peer, Kind.FAILED)
    assert failed.cause == (await peer.status())["last_failure"]


async def test_an_evaluation(peer):
    await evaluating.host(peer, evaluation={"reports": 1})
    await evaluating.finish(peer)
    worker = await evaluating.join(peer)
    await worker.report(diff=evaluating.base64_of(evaluating.measurement(0.5)))
    (told,) = await until_written(peer, Kind.EVALUATED)
    assert told.cause == "checkpoint 2 was measured by 1 worker"
    assert (await written(peer, Kind.JOINED))[-1].event.details == {"task": "evaluation"}
    assert (await peer.post("evaluate", name="m", version="1.0")).status_code == 200
    opened = (await written(peer, Kind.OPENED))[-1].event
    assert (opened.cause, opened.cycle) == ("its owner asked for an evaluation", 3)
    assert opened.actor.role == "anybody"


async def test_damaged_reports_reopen_a_cycle(open_grid, tmp_path):
    async with open_grid(**damage.FROM_BLOBS) as peer:
        await peer.host(server={"max_diffs": 2})
        await damage.report(peer, 1)
        damage.flipped(tmp_path, (await damage.rows(peer))[0]["diff"])
        await damage.report(peer, 2)
        (reopened,) = await until_written(peer, Kind.REOPENED)
        assert reopened.cause == "1 report of the 2 needed are left"
        (lost,) = await until_written(peer, Kind.DAMAGED)
        assert lost.details == {"reports": 1}


class TestATokenOfTheGrid:
    async def test_is_told_of_when_it_is_made_used_and_revoked(self, peer):
        store = peer.app.state.grid.store
        token = await make_token(store, "ci", [Scope.OBSERVE, Scope.READ], 60)
        bearer = {"authorization": f"Bearer {token}"}
        for _ in range(3):
            assert (await peer.http.get("/model-centric/status", headers=bearer)).status_code == 200
        used = (await until_written(peer, Kind.TOKEN_USED))[0]
        assert (used.actor.role, used.actor.id) == ("token", "ci")
        assert used.cause == "it opened a call that needs 'observe'"
        await revoke_token(store, "ci")
        assert (await peer.http.get("/model-centric/status", headers=bearer)).status_code == 401
        (refused,) = await until_written(peer, Kind.REFUSED)
        assert refused.cause == "the token 'ci' was revoked"
        (made,), (revoked,) = await written(peer, Kind.TOKEN_CREATED), await written(peer, Kind.TOKEN_REVOKED)
        assert made.event.details == {"token": "ci", "scopes": ["observe", "read"], "seconds": 60}
        assert revoked.event.details == {"token": "ci"}
        assert made.event.actor.role == revoked.event.actor.role == "command line"
        assert token not in repr(await written(peer))

    async def test_did_what_it_was_used_for(self, open_grid):
        async with open_grid(owner_token="secret") as peer:
            peer.http.headers["authorization"] = "Bearer secret"
            await peer.host("a")
            token = await make_token(peer.app.state.grid.store, "ci", [Scope.HOST], 60)
            peer.http.headers["authorization"] = f"Bearer {token}"
            await peer.host("b")
            hosted = [one.event.actor for one in await written(peer, Kind.HOSTED)]
            assert [(actor.role, actor.id) for actor in hosted] == [("owner token", None), ("token", "ci")]


async def test_what_was_counted_is_written_when_the_grid_ends(open_grid):
    async with open_grid(poll_seconds=60.0) as peer:
        await peer.host()
        await (await peer.join()).report(diff="x")
        assert await written(peer, Kind.REFUSED) == []
    async with open_grid() as peer:
        assert len(await written(peer, Kind.REFUSED)) == 1


async def test_only_so_many_are_kept_and_only_for_so_long(open_grid):
    async with open_grid(keep_events=3) as peer:
        for number in range(6):
            await peer.host(f"m{number}")
        ids = [str(one.position) for one in await written(peer)]
        await EventKeeper(peer.app.state.grid)._trim()
        assert [one.event.model for one in await written(peer)] == ["m3", "m4", "m5"]
        for after, lost in ((ids[0], True), ("0", None), (ids[3], None)):
            told = await peer.http.get("/model-centric/events", params={"after": after})
            assert told.json().get("lost") is lost
    clock = Clock()
    async with open_grid(clock=clock, keep_events_days=2.0) as peer:
        await peer.host("old")
        clock.now += 3 * 86_400
        await peer.host("new")
        await EventKeeper(peer.app.state.grid)._trim()
        assert [one.event.model for one in await written(peer)][-1] == "new"
        assert "old" not in [one.event.model for one in await written(peer)]


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_has_a_meaning(kind):
    assert MEANINGS[kind].endswith(".")


async def test_two_replicas_write_into_one_table(open_grid):
    async with open_grid() as one, open_grid() as two:
        await one.host(server={"max_diffs": 4})
        for peer in (one, two, one):
            await (await peer.join()).report(1)
        assert len(await written(one)) == len(await written(two)) == 7


async def test_a_report_that_is_lost_to_a_conflict_leaves_no_event(peer):
    await peer.host(server={"max_diffs": 2})
    worker = await peer.join()
    replies = await asyncio.gather(*(worker.report(value) for value in (1, 2, 3)))
    assert sorted(reply.status_code for reply in replies) == [200, 409, 409]
    assert len(await written(peer, Kind.REPORTED)) == 1
