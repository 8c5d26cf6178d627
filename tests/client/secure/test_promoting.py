"""A secure round whose model goes on from another checkpoint."""

import asyncio

from tests.client.secure.rounds import VERSION, Workers, host, is_changed_by, secure
from tests.client.training_cases import make_model


async def test_a_promoted_checkpoint_ends_the_round_under_way_and_is_trained_on(owner, url, monkeypatch):
    await host(owner, "promoted", secure(3))
    workers = Workers(url, "promoted", monkeypatch)
    assert await asyncio.gather(*(workers.one(n) for n in range(3))) == ["reported"] * 3
    await owner.wait_async("promoted", VERSION, checkpoint=2, timeout=60)
    waiting = Workers(url, "promoted", monkeypatch)
    left = asyncio.create_task(waiting.one(0))
    await waiting.until("keys", 1)
    await owner.promote_async("promoted", VERSION, 1)
    assert await left == "rejected"
    status = (await owner.status_async("promoted")).models[0]
    assert (status.cycle.number, status.checkpoints[0].number) == (3, 3)
    again = Workers(url, "promoted", monkeypatch)
    assert await asyncio.gather(*(again.one(n) for n in range(3))) == ["reported"] * 3
    await owner.wait_async("promoted", VERSION, checkpoint=4, timeout=60)
    after = await owner.retrieve_model_async("promoted", VERSION)
    assert is_changed_by(make_model(), after, again.average({0, 1, 2}))
