"""What the owner of a model with secure aggregation may do while a round is under way."""

from sqlalchemy import func, select

from fedplan.grid.store.tables import secure_messages, secure_rounds
from tests.grid.secure.test_sending import SECURE, asked, entered, keys, sent
from tests.grid.service.test_controlling import refused, told


async def begun(peer):
    """A round whose workers are settled."""
    workers = await entered(peer)
    for worker in workers:
        assert (await sent(worker, "keys", keys())).status_code == 200
    await peer.until(lambda model: model["cycle"].get("stage") == "shares")
    return workers


async def count(peer, *tables):
    async with peer.app.state.grid.store.reading() as db:
        return [await db.scalar(select(func.count()).select_from(table)) for table in tables]


async def contents(peer):
    """What workers have sent that is still stored."""
    async with peer.app.state.grid.store.reading() as db:
        return [content for content in await db.scalars(select(secure_messages.c.content)) if content]


async def test_a_pause_is_refused_with_what_to_do_instead(peer):
    await peer.host(server=SECURE)
    error = await refused(peer, "pause", 400)
    assert "wait for each other from stage to stage" in error
    assert "`fedplan model stop`" in error


async def test_a_stop_ends_the_round_without_a_sum_and_tells_its_workers(peer):
    worker, *_ = await begun(peer)
    reply = await told(peer, "stop")
    assert "nothing of any report was unmasked" in reply["dropped"]
    model = await peer.status()
    assert (model["phase"], len(model["checkpoints"])) == ("finished", 1)
    assert "ends without a sum" in (await asked(worker, "shares"))["failure"]
    assert await contents(peer) == []


async def test_a_training_that_was_stopped_goes_on_with_a_new_round(peer):
    await begun(peer)
    await told(peer, "stop")
    await told(peer, "extend", cycles=1)
    model = await peer.status()
    assert (model["cycle"]["number"], model["cycle"]["stage"]) == (2, "gather")


async def test_an_extension_makes_the_present_stage_longer(peer):
    await peer.host(server=SECURE)
    before = (await peer.status())["cycle"]["closes_at"]
    reply = await told(peer, "extend", seconds=500)
    assert reply["closes_at"] > before


async def test_secure_aggregation_cannot_be_changed(peer):
    await peer.host(server=SECURE)
    error = await refused(peer, "set", 400, server_config={"secure_aggregation": None}, client_config={})
    assert "workers have agreed to what the grid sees of them" in error


async def test_a_deleted_model_leaves_nothing_of_its_rounds(peer):
    await begun(peer)
    assert 0 not in await count(peer, secure_messages, secure_rounds)
    await told(peer, "delete", force=True)
    assert await count(peer, secure_messages, secure_rounds) == [0, 0]
