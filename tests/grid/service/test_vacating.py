"""Workers that leave a cycle without a report: they decline, or they are gone."""

import asyncio
import json

import numpy as np
import pytest
from websockets.asyncio.client import connect

from tests.grid.models import MODEL
from tests.grid.peers import Peer


async def declined(worker, **changes):
    message = {"worker_id": worker.worker_id, "request_key": worker.request_key}
    return await worker.peer.post("decline", **message | changes)


async def cycle_of(peer):
    return (await peer.status())["cycle"]


class TestAWorkerThatDeclines:
    async def test_gives_its_place_back_and_hears_nothing_but_success(self, peer):
        await peer.host(server={"max_workers": 1, "max_diffs": 1})
        worker = await peer.join()
        reply = await declined(worker, reason="not with my data")
        assert (reply.status_code, reply.json()) == (200, {"status": "success"})
        assert (await cycle_of(peer))["accepted"] == 0
        assert (await (await peer.join()).report()).status_code == 200

    async def test_may_say_so_again(self, peer):
        await peer.host(server={"max_workers": 3})
        worker, _ = await peer.join(), await peer.join()
        for _ in range(2):
            assert (await declined(worker)).status_code == 200
        assert (await cycle_of(peer))["accepted"] == 1

    async def test_may_ask_for_a_place_again(self, peer):
        await peer.host(server={"max_workers": 1, "max_diffs": 1})
        worker = await peer.join()
        await declined(worker)
        again = await peer.ask(worker.worker_id)
        assert again["status"] == "accepted"
        assert again["request_key"] != worker.request_key
        assert (await cycle_of(peer))["accepted"] == 1
        assert (await declined(worker)).status_code == 403  # that key has been replaced
        assert (await cycle_of(peer))["accepted"] == 1

    async def test_lets_the_cycle_close_that_waited_for_it(self, peer):
        await peer.host(server={"min_workers": 1})
        stays, goes = await peer.join(), await peer.join()
        await stays.report(1.0)
        assert (await cycle_of(peer))["number"] == 1
        await declined(goes)
        await peer.until_checkpoint(2)

    async def test_does_not_close_a_cycle_without_enough_reports(self, peer):
        await peer.host(server={"max_diffs": 2})
        stays, goes = await peer.join(), await peer.join()
        await stays.report()
        await declined(goes)
        assert (await cycle_of(peer))["phase"] == "open"
        await (await peer.join()).report()
        await peer.until_checkpoint(2)

    async def test_after_its_report_has_nothing_to_give_back(self, peer):
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        await worker.report()
        reply = await declined(worker)
        assert reply.status_code == 409
        assert "has reported" in reply.json()["error"]
        assert (await cycle_of(peer))["accepted"] == 1

    async def test_of_a_cycle_that_is_over_changes_nothing(self, peer):
        await peer.host(server={"max_diffs": 1})
        late, quick = await peer.join(), await peer.join()
        await quick.report()
        await peer.until_checkpoint(2)
        await peer.join()
        assert (await declined(late)).status_code == 200
        assert (await cycle_of(peer))["accepted"] == 1

    async def test_cannot_report_any_more(self, peer):
        await peer.host(server={"max_workers": 2, "min_diffs": 2, "max_diffs": 2})
        left = await peer.join()
        await declined(left)
        stay, other = await peer.join(), await peer.join()
        for _ in range(2):
            reply = await left.report(9.0)
            assert reply.status_code == 409
            assert "gave its place back" in reply.json()["error"]
        for worker in (stay, other):
            assert (await worker.report(1.0)).status_code == 200
        await peer.until_checkpoint(2)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 1)
        assert (
            await stay.report(1.0)
        ).status_code == 200  # the same one again: its answer may have been lost

    async def test_can_report_with_the_place_that_it_has_got_again(self, peer):
        await peer.host(server={"max_diffs": 1})
        worker = await peer.join()
        await declined(worker)
        again = await peer.ask(worker.worker_id)
        assert (await worker.report(1.0, request_key=again["request_key"])).status_code == 200
        await peer.until_checkpoint(2)

    async def test_cannot_report_into_a_later_cycle_of_fedbuff_either(self, peer):
        await peer.host(server={"strategy": {"name": "fedbuff", "k": 1}})
        left = await peer.join()
        await declined(left)
        await (await peer.join()).report(1.0)
        await peer.until_checkpoint(2)
        assert (await left.report(9.0)).status_code == 409

    async def test_must_show_its_key(self, peer):
        await peer.host()
        worker = await peer.join()
        assert (await declined(worker, request_key="x")).status_code == 403
        assert (await declined(worker, worker_id="x")).status_code == 403
        assert (await cycle_of(peer))["accepted"] == 1


class TestAWorkerThatIsGone:
    """The clock is set by hand; the closer looks every 50 ms."""

    @pytest.fixture
    async def timed(self, open_grid):
        self.now = 1000.0
        async with open_grid(clock=lambda: self.now) as peer:
            yield peer

    async def accepted(self, peer, count):
        return await peer.until(lambda model: model["cycle"]["accepted"] == count)

    @pytest.mark.parametrize("length", [{}, {"cycle_length": 1000}])
    async def test_loses_its_place_to_others_when_its_time_is_over(self, timed, length):
        await timed.host(
            server={"max_workers": 1, "pool_selection": "iterate", "place_timeout": 60, **length}
        )
        await timed.join()
        self.now += 59
        await asyncio.sleep(0.2)
        assert (await timed.ask(await timed.authenticate()))["status"] == "rejected"
        self.now += 1
        await self.accepted(timed, 0)
        await (await timed.join()).report()
        await timed.until_checkpoint(2)

    async def test_lets_the_cycle_close_that_waited_for_it_alone(self, timed):
        await timed.host(server={"min_workers": 1, "place_timeout": 60})
        await timed.join()
        self.now += 30
        await (await timed.join()).report(2.0)
        self.now += 29
        await asyncio.sleep(0.2)
        assert (await cycle_of(timed))["phase"] == "open"
        self.now += 1
        await timed.until_checkpoint(2)
        np.testing.assert_allclose((await timed.checkpoint())[1], MODEL[1] - 2)

    async def test_is_one_that_took_its_place_so_long_ago_and_no_other(self, timed):
        await timed.host(server={"max_diffs": 9, "place_timeout": 60})
        for _ in range(3):
            await timed.join()
            self.now += 20
        for left in (2, 1, 0):
            await self.accepted(timed, left)
            self.now += 20
        async with asyncio.timeout(10):
            while 'fedplan_vacated_total{how="lapsed"} 3.0' not in (await timed.http.get("/metrics")).text:
                await asyncio.sleep(0.01)

    async def test_may_still_report_while_the_cycle_is_open(self, timed):
        await timed.host(server={"max_diffs": 2, "place_timeout": 60})
        slow = await timed.join()
        self.now += 60
        await self.accepted(timed, 0)
        assert (await slow.report(1.0)).status_code == 200
        await self.accepted(timed, 1)
        await (await timed.join()).report(3.0)
        await timed.until_checkpoint(2)
        np.testing.assert_allclose((await timed.checkpoint())[1], MODEL[1] - 2)

    async def test_that_reports_after_all_is_the_last_that_the_cycle_waits_for(self, timed):
        await timed.host(server={"min_workers": 1, "place_timeout": 60})
        slow = await timed.join()
        self.now += 60
        await self.accepted(timed, 0)
        await slow.report(1.0)
        await timed.until_checkpoint(2)

    async def test_that_reports_after_all_does_not_end_the_cycle_for_who_still_trains(self, timed):
        await timed.host(server={"min_workers": 1, "place_timeout": 60})
        slow = await timed.join()
        self.now += 60
        await self.accepted(timed, 0)
        trains = await timed.join()
        await slow.report(1.0)
        assert (await cycle_of(timed))["phase"] == "open"
        assert (await trains.report(3.0)).status_code == 200
        await timed.until_checkpoint(2)
        np.testing.assert_allclose((await timed.checkpoint())[1], MODEL[1] - 2)

    async def test_that_asks_again_has_all_its_time_again(self, timed):
        await timed.host(server={"max_diffs": 2, "place_timeout": 60})
        worker = await timed.join()
        self.now += 60
        await self.accepted(timed, 0)
        assert (await timed.ask(worker.worker_id))["status"] == "accepted"
        self.now += 59
        await asyncio.sleep(0.2)
        assert (await cycle_of(timed))["accepted"] == 1
        self.now += 1
        await self.accepted(timed, 0)

    async def test_keeps_a_place_for_a_day_where_nothing_else_is_said(self, timed):
        await timed.host(server={"max_diffs": 2})
        await timed.join()
        self.now += 86_399
        await asyncio.sleep(0.2)
        assert (await cycle_of(timed))["accepted"] == 1
        self.now += 1
        await self.accepted(timed, 0)

    async def test_is_found_by_a_grid_that_was_started_again(self, open_grid):
        self.now = 1000.0
        async with open_grid(clock=lambda: self.now) as peer:
            await peer.host(server={"min_workers": 1, "place_timeout": 60})
            await peer.join()
            await (await peer.join()).report()
        self.now += 60
        async with open_grid(clock=lambda: self.now) as peer:
            await peer.until_checkpoint(2)

    async def test_is_noticed_when_its_time_is_over_and_not_at_the_next_poll(self, open_grid):
        async with open_grid(poll_seconds=30) as peer:
            await peer.host(server={"min_workers": 1, "place_timeout": 1.0})
            other = await peer.join()
            await peer.join()
            await other.report()
            peer.app.state.grid.closable.set()  # a look, from which on the closer knows of the cycle
            await peer.until_checkpoint(2)


async def test_over_a_websocket_declining_is_the_same(server, http):
    peer = Peer(http)
    await peer.host("over a socket", server={"max_workers": 1})
    worker = await peer.join("over a socket")
    async with connect(f"ws://{server}") as socket:
        data = {"worker_id": worker.worker_id, "request_key": worker.request_key}
        await socket.send(json.dumps({"type": "model-centric/decline", "data": data, "request_id": 7}))
        answer = json.loads(await socket.recv())
    assert answer == {"type": "model-centric/decline", "request_id": 7, "data": {"status": "success"}}
    assert (await peer.status("over a socket"))["cycle"]["accepted"] == 0
