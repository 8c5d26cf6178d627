"""What owners do while many workers and two replicas are at work: nothing fails, nothing hangs."""

import asyncio
import itertools
import random

from tests.grid.models import base64_of, diff

REFUSED = {200, 403, 404, 409, 503}
"""What a worker may hear while its model is dropped, deleted and hosted again under its feet."""


async def at_work(peer, heard, stop):
    while not stop.is_set():
        reply = await peer.post("authenticate", model_name="m", model_version="1.0")
        heard.add(reply.status_code)
        await asyncio.sleep(0)  # in this process a call may be answered without a pause
        if reply.status_code != 200:
            continue
        worker_id = reply.json()["worker_id"]
        reply = await peer.post("cycle-request", worker_id=worker_id, model="m", version="1.0")
        heard.add(reply.status_code)
        if reply.json().get("status") == "accepted":
            keys = {"worker_id": worker_id, "request_key": reply.json()["request_key"]}
            reply = await peer.post("report", **keys, diff=base64_of(diff(0.125)))
            heard.add(reply.status_code)


async def test_owners_and_workers_do_not_get_in_each_others_way(open_grid):
    chance, heard, said, stop = random.Random(7), set[int](), set[int](), asyncio.Event()
    actions = (
        *(("pause", {}), ("resume", {}), ("resume", {}), ("promote", {"checkpoint": 1}), ("stop", {})),
        *(("extend", {"cycles": 5}), ("extend", {"cycles": 5}), ("extend", {"seconds": 1})),
        *(("set", {"server_config": {"max_diffs": 2}}), ("set", {"client_config": {"lr": 0.5}})),
        *(("roll-back", {"checkpoint": 1}), ("delete", {"force": True})),
    )
    async with open_grid() as one, open_grid() as two:
        await one.host(server={"max_diffs": 3, "num_cycles": 5})
        workers = [asyncio.create_task(at_work(peer, heard, stop)) for peer in (one, two) for _ in range(3)]
        for peer, _ in zip(itertools.cycle((one, two)), range(60), strict=False):
            call, more = chance.choice(actions)
            reply = await peer.post(call, name="m", version="1.0", **more)
            said.add(reply.status_code)
            if call == "delete" and reply.status_code == 200:
                await peer.host(server={"max_diffs": 3, "num_cycles": 5})
            await asyncio.sleep(0.02)
        stop.set()
        await asyncio.gather(*workers)
        await two.post("delete", name="m", version="1.0", force=True)
        await one.host(server={"max_diffs": 1})
        await (await two.join()).report(1.0)
        model = await one.until_checkpoint(2)
        assert model["cycle"]["number"] == 2
    assert {200} <= heard <= REFUSED
    assert {200} <= said <= {200, 400, 404, 409}
