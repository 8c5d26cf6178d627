"""The checkpoints of a model, and going back to an older one."""

import pytest

from tests.grid.service.test_controlling import refused, told
from tests.grid.service.test_evaluating import PLANS


async def listed(peer):
    reply = await peer.http.get("/model-centric/checkpoints", params={"name": "m", "version": "1.0"})
    assert reply.status_code == 200, reply.text
    return reply.json()["checkpoints"]


async def trained(peer, *values, **server):
    """A model whose cycles each had one report of that value."""
    await peer.host(server={"max_diffs": 1, **server})
    for number, value in enumerate(values, 2):
        await (await peer.join()).report(value)
        await peer.until_checkpoint(number)


async def bias(peer, checkpoint="latest"):
    return (await peer.checkpoint(checkpoint=checkpoint))[1].tolist()[0]


async def test_they_say_what_made_them_and_under_what_names_they_are_to_be_had(peer):
    best = {"metric": "update_norm", "mode": "max"}
    await trained(peer, 3.0, 1.0, metrics=["update_norm"], best=best)
    rows = await listed(peer)
    assert [row["number"] for row in rows] == [3, 2, 1]
    assert [row.get("cycle") for row in rows] == [2, 1, None]
    assert [row["aliases"] for row in rows] == [["latest"], [], ["best"]]
    await told(peer, "promote", checkpoint=2)
    copy = (await listed(peer))[0]
    assert (copy["number"], copy["source"], copy["aliases"]) == (4, 2, ["latest"])


class TestAPromotedCheckpoint:
    async def test_is_the_newest_under_a_new_number_and_trained_on(self, peer):
        await trained(peer, 1.0, 2.0)
        assert [await bias(peer), await bias(peer, 2)] == [-3.0, -1.0]
        reply = await told(peer, "promote", checkpoint=2)
        assert reply == {"status": "success", "checkpoint": 4, "cycle": 4}
        assert await bias(peer) == -1.0
        await (await peer.join()).report(5.0)
        await peer.until_checkpoint(5)
        assert await bias(peer) == -6.0
        assert await bias(peer, 3) == -3.0  # the others are as they were

    async def test_has_what_the_strategy_remembered_at_it(self, peer):
        strategy = {"name": "fedavgm", "momentum": 0.5}
        await trained(peer, 8.0, 0.0, 0.0, strategy=strategy)
        assert [await bias(peer, number) for number in (2, 3, 4)] == [-8.0, -12.0, -14.0]
        await told(peer, "promote", checkpoint=2)
        await (await peer.join()).report(0.0)
        await peer.until_checkpoint(6)
        assert await bias(peer) == -12.0  # the momentum of checkpoint 2

    async def test_drops_the_cycle_that_is_under_way(self, peer):
        await trained(peer, 1.0, 2.0)
        late = await peer.join()
        await told(peer, "promote", checkpoint=1)
        model = await peer.status()
        assert "has checkpoint 4, a copy of 1, trained on instead" in model["last_failure"]
        assert (await late.report(9.0)).status_code == 409

    async def test_takes_no_late_report_from_before(self, peer):
        """With an asynchronous strategy reports of older cycles count; these would be of another model."""
        await peer.host(server={"strategy": {"name": "fedbuff", "k": 1, "staleness": 5}})
        late = await peer.join()
        await (await peer.join()).report(1.0)
        await peer.until_checkpoint(2)
        await told(peer, "promote", checkpoint=1)
        reply = await late.report(9.0)
        assert (reply.status_code, "its cycle is over" in reply.text) == (409, True)
        later = await peer.join()
        await (await peer.join()).report(1.0)
        await peer.until_checkpoint(4)
        assert (await later.report(1.0)).status_code == 200

    async def test_is_one_however_often_it_is_said(self, peer):
        await trained(peer, 1.0, 2.0)
        replies = [await told(peer, "promote", checkpoint=2) for _ in range(3)]
        assert {reply["checkpoint"] for reply in replies} == {4}
        assert {reply["cycle"] for reply in replies} == {4}
        assert (await told(peer, "promote", checkpoint=4))["checkpoint"] == 4

    async def test_of_a_finished_model_is_the_newest_and_measured_if_that_is_wanted(self, peer):
        await peer.host(plans=PLANS, server={"max_diffs": 1, "num_cycles": 1})
        await (await peer.join()).report(1.0)
        await peer.until(lambda model: model["cycle"]["task"] == "evaluation")
        assert await told(peer, "promote", checkpoint=1) == {"status": "success", "checkpoint": 3}
        assert await bias(peer) == 0.0
        assert (await told(peer, "extend", cycles=1))["num_cycles"] == 3

    async def test_wins_over_a_replica_that_is_averaging(self, open_grid, may_average):
        async with open_grid() as one, open_grid() as two:
            may_average.set()
            await trained(one, 1.0, 2.0)
            may_average.clear()
            await (await one.join()).report(9.0)
            await one.until(lambda model: model["cycle"]["phase"] == "closing")
            assert (await told(two, "promote", checkpoint=2))["checkpoint"] == 4
            may_average.set()
            await (await two.join()).report(1.0)
            await one.until_checkpoint(5)
            assert await bias(one) == -2.0

    async def test_must_exist(self, peer):
        await trained(peer, 1.0)
        assert "has no checkpoint 9" in await refused(peer, "promote", 404, checkpoint=9)


class TestAModelThatIsRolledBack:
    async def test_goes_on_from_the_older_checkpoint_and_has_the_others_no_more(self, peer):
        await trained(peer, 1.0, 2.0, 4.0)
        reply = await told(peer, "roll-back", checkpoint=2)
        assert reply == {"status": "success", "checkpoint": 5, "cycle": 5}
        assert await bias(peer) == -1.0
        assert [row["number"] for row in await listed(peer) if row.get("dropped")] == [4, 3]
        assert [row["number"] for row in (await peer.status())["checkpoints"]] == [5, 2, 1]
        reply = await peer.http.get("/model-centric/retrieve-model", params={"name": "m", "checkpoint": "3"})
        assert (reply.status_code, "was dropped" in reply.json()["error"]) == (404, True)

    async def test_has_no_best_checkpoint_among_the_dropped(self, peer):
        best = {"metric": "update_norm", "mode": "max"}
        await trained(peer, 1.0, 9.0, 1.0, metrics=["update_norm"], best=best)
        assert await bias(peer, "best") == -1.0
        await told(peer, "roll-back", checkpoint=1)
        assert await bias(peer, "best") == 0.0

    async def test_may_be_brought_forward_again(self, peer):
        await trained(peer, 1.0, 2.0)
        await told(peer, "roll-back", checkpoint=1)
        assert "was dropped" in await refused(peer, "roll-back", 409, checkpoint=3)
        assert (await told(peer, "promote", checkpoint=3))["checkpoint"] == 5
        assert await bias(peer) == -3.0

    async def test_is_rolled_back_once_however_often_it_is_said(self, peer):
        await trained(peer, 1.0, 2.0)
        assert len({str(await told(peer, "roll-back", checkpoint=2)) for _ in range(3)}) == 1

    async def test_stays_paused(self, peer):
        await trained(peer, 1.0)
        await told(peer, "pause")
        await told(peer, "roll-back", checkpoint=1)
        assert (await peer.status())["paused"] is True


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("secret", 200)])
async def test_listing_is_for_observers(open_grid, token, status):
    async with open_grid(owner_token="secret") as peer:
        peer.http.headers["authorization"] = "Bearer secret"
        await peer.host()
        headers = {"authorization": f"Bearer {token or 'other'}"}
        query = {"name": "m", "version": "1.0"}
        reply = await peer.http.get("/model-centric/checkpoints", params=query, headers=headers)
        assert reply.status_code == status
