"""Workers that leave a cycle without a report."""

import json

from websockets.asyncio.client import connect

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

    async def test_must_show_its_key(self, peer):
        await peer.host()
        worker = await peer.join()
        assert (await declined(worker, request_key="x")).status_code == 403
        assert (await declined(worker, worker_id="x")).status_code == 403
        assert (await cycle_of(peer))["accepted"] == 1


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
