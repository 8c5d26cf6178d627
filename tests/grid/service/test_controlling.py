"""Pausing, stopping and extending a model while it is trained."""

import asyncio
import json

import pytest
from websockets.asyncio.client import connect

from tests.grid.models import base64_of, hosting
from tests.grid.service.test_damage import flipped, rows
from tests.grid.service.test_evaluating import PLANS, closed, join, measurement

SOON = (2, 3, 4)
"""Seconds that a rejected worker is told, about `retry_seconds`."""


async def told(peer, call, **more):
    """What the grid answers to the model's owner."""
    reply = await peer.post(call, name="m", version="1.0", **more)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def refused(peer, call, status, **more):
    reply = await peer.post(call, name="m", version="1.0", **more)
    assert reply.status_code == status, reply.text
    return reply.json()["error"]


async def rejected(peer, **more):
    return await peer.ask(await peer.authenticate(), **more)


class TestAPausedModel:
    async def test_takes_nobody_who_may_ask_again_and_says_why_to_who_can_read_it(self, peer):
        await peer.host(server={"max_diffs": 2})
        for _ in range(2):
            assert await told(peer, "pause") == {"status": "success"}
        assert set(await rejected(peer)) == {"status", "timeout"}
        answer = await rejected(peer, tell_cycle=True)
        assert answer.pop("timeout") in SOON
        assert answer == {"status": "rejected", "reason": "the model is paused"}
        assert (await peer.status())["paused"] is True

    async def test_takes_reports_of_its_workers_who_keep_their_places(self, peer):
        await peer.host(server={"max_diffs": 2})
        one, other = await peer.join(), await peer.join()
        await told(peer, "pause")
        assert (await peer.ask(one.worker_id))["request_key"] == one.request_key
        for worker in (one, other):
            assert (await worker.report(1.0)).status_code == 200
        await peer.until_checkpoint(2)
        assert (await rejected(peer))["status"] == "rejected"  # the next cycle is paused too

    async def test_is_closed_by_no_time_and_has_as_much_left_when_it_is_resumed(self, open_grid):
        now = 1000.0
        async with open_grid(clock=lambda: now) as peer:
            await peer.host(server={"cycle_length": 100})
            worker = await peer.join()
            now += 40
            before = (await peer.status())["cycle"]["closes_at"]
            await told(peer, "pause")
            await worker.report(1.0)
            now += 1000
            await asyncio.sleep(0.2)
            cycle = (await peer.status())["cycle"]
            assert (cycle["phase"], cycle.get("closes_at")) == ("open", None)
            await told(peer, "resume")
            assert (await peer.status())["cycle"]["closes_at"] > before
            now += 59
            await asyncio.sleep(0.2)
            assert (await peer.status())["cycle"]["phase"] == "open"
            now += 1
            await peer.until_checkpoint(2)

    async def test_takes_no_place_from_workers_that_are_silent(self, open_grid):
        now = 1000.0
        async with open_grid(clock=lambda: now) as peer:
            await peer.host(server={"max_diffs": 2, "place_timeout": 10})
            await peer.join()
            now += 5
            await told(peer, "pause")
            now += 1000
            await asyncio.sleep(0.2)
            await told(peer, "resume")
            now += 4
            await asyncio.sleep(0.2)
            assert (await peer.status())["cycle"]["accepted"] == 1
            now += 1
            await peer.until(lambda model: model["cycle"]["accepted"] == 0)

    async def test_takes_workers_again_when_it_is_resumed(self, peer):
        await peer.host(server={"max_diffs": 1})
        await told(peer, "pause")
        for _ in range(2):
            await told(peer, "resume")
        await (await peer.join()).report(1.0)
        await peer.until_checkpoint(2)

    async def test_is_paused_for_every_replica_and_after_a_start(self, open_grid):
        async with open_grid() as one, open_grid() as two:
            await one.host(server={"max_diffs": 1})
            await two.join()
            await told(one, "pause")
            assert (await rejected(two))["timeout"] in SOON
        async with open_grid() as peer:
            assert (await rejected(peer))["timeout"] in SOON

    async def test_is_told_to_a_worker_that_only_measures_too(self, peer):
        await peer.host(plans=PLANS, server={"max_diffs": 1, "num_cycles": 1})
        await (await peer.join()).report(1.0)
        await peer.until(lambda model: model["cycle"]["task"] == "evaluation")
        await told(peer, "pause")
        assert (await rejected(peer, summary=True, evaluates=True))["timeout"] in SOON

    async def test_must_be_one_that_takes_workers(self, peer):
        await peer.host(server={"max_diffs": 1, "num_cycles": 1})
        await (await peer.join()).report(1.0)
        await peer.until(lambda model: model["phase"] == "finished")
        assert "its training has ended" in await refused(peer, "pause", 409)


class TestAStoppedModel:
    async def test_gets_a_checkpoint_of_what_it_has_if_that_is_enough(self, peer):
        await peer.host(server={"min_diffs": 2, "max_diffs": 9, "num_cycles": 5})
        for value in (1.0, 3.0):
            await (await peer.join()).report(value)
        assert await told(peer, "stop") == {"status": "success", "cycle": 1}
        model = await peer.until(lambda model: model["phase"] == "finished")
        assert model["checkpoints"][0]["number"] == 2
        assert (await peer.checkpoint())[1].tolist() == [-2.0, -2.0]
        assert await rejected(peer) == {"status": "rejected"}

    async def test_drops_its_cycle_if_it_has_too_little(self, peer, tmp_path):
        await peer.host(server={"min_diffs": 2, "max_diffs": 9})
        worker, silent = await peer.join(), await peer.join()
        await worker.report(1.0)
        why = "the training was stopped when the cycle had 1 of 2 reports"
        assert await told(peer, "stop") == {"status": "success", "cycle": 1, "dropped": why}
        model = await peer.status()
        assert (model["phase"], model["last_failure"]) == ("finished", why)
        assert "its cycle is over" in (await silent.report(1.0)).json()["error"]
        assert not list((tmp_path / "blobs" / "diffs").glob("*/*"))

    async def test_is_measured_as_after_its_last_cycle(self, peer):
        await peer.host(plans=PLANS, server={"max_diffs": 2, "num_cycles": 9})
        await peer.join()
        await told(peer, "stop")
        assert (await peer.status())["cycle"]["task"] == "evaluation"
        await (await join(peer)).report(diff=base64_of(measurement(1.0)))
        for _ in range(2):  # it has ended already
            assert await told(peer, "stop") == {"status": "success", "cycle": 2}

    async def test_stays_one_when_its_cycle_is_closing(self, open_grid, may_average):
        """Another replica may be averaging it."""
        async with open_grid() as one, open_grid() as two:
            await one.host(server={"max_diffs": 1})
            await (await one.join()).report(1.0)
            await told(two, "stop")
            may_average.set()
            await one.until_checkpoint(2)
            assert (await two.status())["phase"] == "finished"

    @pytest.mark.parametrize(("damaged", "checkpoints"), [(1, 2), (2, 1)])
    async def test_does_without_damaged_reports_if_enough_are_left(
        self, open_grid, tmp_path, damaged, checkpoints
    ):
        async with open_grid(sums_bytes=0) as peer:
            await peer.host(server={"min_diffs": 2, "max_diffs": 9})
            for value in (1.0, 2.0, 3.0):
                await (await peer.join()).report(value)
            for row in (await rows(peer))[:damaged]:
                flipped(tmp_path, row["diff"])
            assert await told(peer, "stop") == {"status": "success", "cycle": 1}
            model = await peer.until(lambda model: model["phase"] == "finished")
            assert model["checkpoints"][0]["number"] == checkpoints
            assert model.get("last_failure") == (
                None if checkpoints == 2 else "the training was stopped when the cycle had 1 of 2 reports"
            )


class TestAnExtendedModel:
    async def finished(self, peer, **server):
        await peer.host(server={"max_diffs": 1, "num_cycles": 1, **server})
        await (await peer.join()).report(1.0)
        await peer.until(lambda model: model["phase"] == "finished")

    async def test_has_more_cycles(self, peer):
        await peer.host(server={"max_diffs": 1, "num_cycles": 1})
        assert await told(peer, "extend", cycles=1) == {"status": "success", "num_cycles": 2}
        for number in (2, 3):
            await (await peer.join()).report(1.0)
            await peer.until_checkpoint(number)
        assert (await peer.status())["phase"] == "finished"

    async def test_has_no_more_than_its_schedules_have_numbers_for(self, peer):
        halved = {"batch_size": {"schedule": "step", "start": 2, "factor": 0.5}}
        await peer.host(server={"max_diffs": 1, "num_cycles": 2}, client=halved)
        assert "gives 0 in cycle 3" in await refused(peer, "extend", 400, cycles=1)
        assert (await peer.status())["num_cycles"] == 2

    async def test_goes_on_after_its_end(self, peer):
        await self.finished(peer)
        assert (await told(peer, "extend", cycles=2))["num_cycles"] == 3
        for number in (3, 4):
            await (await peer.join()).report(1.0)
            await peer.until_checkpoint(number)
        assert (await peer.status())["phase"] == "finished"

    async def test_goes_on_after_a_stop(self, peer):
        await peer.host(server={"max_diffs": 1, "num_cycles": 9})
        await told(peer, "stop")
        assert (await told(peer, "extend", cycles=1))["num_cycles"] == 2
        await (await peer.join()).report(1.0)
        await peer.until_checkpoint(2)
        assert (await peer.status())["phase"] == "finished"

    async def test_is_measured_first_if_it_is_being_measured(self, peer):
        await peer.host(plans=PLANS, server={"max_diffs": 1, "num_cycles": 1})
        await (await peer.join()).report(1.0)
        await peer.until(lambda model: model["cycle"]["task"] == "evaluation")
        assert (await told(peer, "extend", cycles=1))["num_cycles"] == 3
        await (await join(peer)).report(diff=base64_of(measurement(1.0)))
        await peer.until(lambda model: model["cycle"]["number"] == 3)
        assert (await peer.status())["cycle"]["task"] == "training"
        await (await peer.join()).report(1.0)
        await peer.until(lambda model: model["cycle"]["number"] == 4)
        await (await join(peer)).report(diff=base64_of(measurement(1.0)))
        await closed(peer)
        assert (await peer.status())["phase"] == "finished"

    async def test_does_not_go_on_when_its_goal_is_reached(self, peer):
        await peer.host(
            plans=PLANS,
            server={
                "max_diffs": 1,
                "num_cycles": 9,
                "metrics": ["update_norm"],
                "stop": {"metric": "update_norm", "mode": "max", "value": 0.1},
            },
        )
        await (await peer.join()).report(1.0)
        await peer.until(lambda model: model["phase"] == "finished")
        assert "has reached its goal" in await refused(peer, "extend", 409, cycles=1)
        await told(peer, "set", server_config={"stop": None})
        assert (await told(peer, "extend", cycles=1))["num_cycles"] == 3

    async def test_without_end_needs_no_more_cycles(self, peer):
        await peer.host(server={"max_diffs": 1})
        assert "trained without end" in await refused(peer, "extend", 400, cycles=1)

    async def test_has_more_time_for_its_open_cycle(self, open_grid):
        now = 1000.0
        async with open_grid(clock=lambda: now) as peer:
            await peer.host(server={"cycle_length": 10})
            await (await peer.join()).report(1.0)
            assert "closes_at" in await told(peer, "extend", seconds=5)
            now += 14
            await asyncio.sleep(0.2)
            assert (await peer.status())["cycle"]["number"] == 1
            now += 1
            await peer.until_checkpoint(2)

    async def test_has_no_more_time_where_time_closes_nothing(self, peer):
        await peer.host(server={"max_diffs": 1, "num_cycles": 1})
        assert "no time closes cycle 1" in await refused(peer, "extend", 400, seconds=5)
        await (await peer.join()).report(1.0)
        await peer.until(lambda model: model["phase"] == "finished")
        assert "no cycle of 'm' version '1.0' is open" in await refused(peer, "extend", 409, seconds=5)

    async def test_must_be_told_by_how_much(self, peer):
        await peer.host()
        assert "a number of cycles, or seconds" in await refused(peer, "extend", 400)


async def test_what_owners_do_is_written_down_with_who_did_it(open_grid):
    async with open_grid(owner_token="secret") as peer:
        peer.http.headers["authorization"] = "Bearer secret"
        await peer.host(server={"max_diffs": 1, "num_cycles": 9})
        for call, more in {**CALLS, "delete": {"force": True}}.items():
            if call != "delete":
                await told(peer, call, **more)
        await (await peer.join()).report(1.0)
        await peer.until_checkpoint(2)
        await told(peer, "promote", checkpoint=1)
        await told(peer, "roll-back", checkpoint=2)
        await told(peer, "delete", force=True)
        query = {"name": "m", "version": "1.0"}
        reply = await peer.http.get("/model-centric/events", params=query)
        owners = [event for event in reply.json()["events"] if event["actor"] == "owner token"]
        kinds = [event["kind"] for event in owners]
        assert {"paused", "resumed", "stopped", "prolonged", "changed", "promoted", "rolled_back"} <= {*kinds}
        assert kinds[-1] == "deleted"
        changed = next(event for event in owners if event["kind"] == "changed")
        assert changed["details"] == {"server_config": ["max_diffs"], "client_config": []}


CALLS = {
    "pause": {},
    "resume": {},
    "stop": {},
    "extend": {"cycles": 1},
    "set": {"server_config": {"max_diffs": 1}},
    "delete": {},
    "promote": {"checkpoint": 1},
    "roll-back": {"checkpoint": 1},
}


@pytest.mark.parametrize("call", CALLS)
async def test_what_is_not_hosted_cannot_be_controlled(peer, call):
    assert "hosts no model 'm' version '1.0'" in await refused(peer, call, 404, **CALLS[call])


@pytest.mark.parametrize("call", CALLS)
async def test_it_is_the_owner_who_controls_a_model(open_grid, call):
    async with open_grid(owner_token="secret") as peer:
        assert "owner token" in await refused(peer, call, 401, **CALLS[call])


async def test_it_goes_over_a_websocket_too(server):
    async with connect(f"ws://{server}") as socket:

        async def say(call, **data):
            await socket.send(json.dumps({"type": f"model-centric/{call}", "data": data}))
            return json.loads(await socket.recv())["data"]

        assert await say("host-training", **hosting("over", "1.0", server={"num_cycles": 1})) == {
            "status": "success"
        }
        which = {"name": "over", "version": "1.0"}
        assert await say("pause", **which) == {"status": "success"}
        assert await say("extend", **which, cycles=2) == {"status": "success", "num_cycles": 3}
        assert (await say("stop", **which))["cycle"] == 1
        assert await say("delete", **which) == {"status": "success"}
        assert "no model" in (await say("pause", **which))["error"]
