"""Changing keys of a hosted model's configurations."""

import pytest

from fedplan.grid.service.reconfiguring import CHANGEABLE, FIXED
from fedplan.wire.config import ServerConfig
from tests.grid.models import plan_for_two
from tests.grid.service.test_controlling import refused, told


class TestAChangedModel:
    async def test_has_the_new_keys_from_the_next_cycle_on(self, peer):
        await peer.host(server={"max_diffs": 2}, client={"lr": 0.1})
        one, other = await peer.join(), await peer.join()
        reply = await told(peer, "set", server_config={"max_diffs": 1}, client_config={"lr": 0.5, "mine": 1})
        assert reply == {"status": "success", "cycle": 2}
        assert (await peer.status())["cycle"]["limit"] == 2
        assert (await peer.ask(one.worker_id))["client_config"]["lr"] == 0.1
        for worker in (one, other):
            await worker.report(1.0)
        await peer.until_checkpoint(2)
        assert (await peer.status())["cycle"]["limit"] == 1
        worker = await peer.join()
        told_to_workers = worker.accepted["client_config"]
        assert (told_to_workers["lr"], told_to_workers["mine"]) == (0.5, 1)
        await worker.report(1.0)
        await peer.until_checkpoint(3)

    async def test_has_them_on_every_replica_and_after_a_start(self, open_grid):
        async with open_grid() as one, open_grid() as two:
            await one.host(server={"max_diffs": 2})
            await two.join()
            await told(one, "set", server_config={"max_diffs": 1})
            for peer in (one, two):
                await (await peer.join()).report(1.0)
            await two.until_checkpoint(2)
        async with open_grid() as peer:
            await (await peer.join()).report(1.0)
            await peer.until_checkpoint(3)

    async def test_loses_a_key_that_is_null(self, peer):
        await peer.host(server={"max_diffs": 1, "num_cycles": 1})
        await told(peer, "set", server_config={"num_cycles": None})
        await (await peer.join()).report(1.0)
        await peer.until_checkpoint(2)
        assert (await peer.status())["phase"] == "training"

    async def test_keeps_the_checkpoints_that_its_newest_configuration_says(self, open_grid):
        """Whoever deletes others: the end of a cycle, or a sweep."""

        async def kept(peer, *numbers):
            await peer.until(lambda model: [one["number"] for one in model["checkpoints"]] == [*numbers])

        async with open_grid(sweep_seconds=0.1) as peer:
            best = {"metric": "update_norm", "mode": "max"}
            await peer.host(server={"max_diffs": 1, "metrics": ["update_norm"], "best": best})
            for number, value in ((2, 1.0), (3, 5.0), (4, 1.0)):
                await (await peer.join()).report(value)
                await peer.until_checkpoint(number)
            await told(peer, "set", server_config={"keep_checkpoints": {"last": 2, "best": True}})
            await (await peer.join()).report(1.0)
            await kept(peer, 5, 4, 2)
            await told(peer, "set", server_config={"keep_checkpoints": 1, "best": None})
            await kept(peer, 5)

    async def test_may_be_shorter(self, peer):
        await peer.host(server={"max_diffs": 1, "num_cycles": 9})
        await told(peer, "set", server_config={"num_cycles": 1})
        await (await peer.join()).report(1.0)
        await peer.until(lambda model: model["phase"] == "finished")
        assert "has ended" in await refused(peer, "set", 409, server_config={"num_cycles": 5})

    async def test_keeps_the_secret_with_which_it_checks_tokens(self, open_grid):
        secret = {"authentication": {"secret": "s" * 32}}
        async with open_grid(secret_key="k" * 32) as peer:
            await peer.host(server={"max_diffs": 1, **secret})
            await told(peer, "set", server_config={"max_diffs": 2})
            reply = await peer.post("authenticate", model_name="m", model_version="1.0", auth_token="x.y.z")
            assert reply.status_code == 401
            grid = peer.app.state.grid
            old, new = [(await grid.known.hosted(1, number)).process for number in (0, 1)]
            assert old.server_config.authentication == new.server_config.authentication
            assert (old.server_config.max_diffs, new.server_config.max_diffs) == (1, 2)

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"server_config": {"strategy": "fedavgm"}}, "'strategy' cannot be changed: what a strategy"),
            ({"server_config": {"authentication": None}}, "'authentication' cannot be changed"),
            ({"client_config": {"version": "2"}}, "client_config: 'version' cannot be changed"),
            ({"server_config": {"max_wokers": 1}}, "'max_wokers' is not a key"),
            ({"server_config": {"min_diffs": 3}}, "min_diffs (3) is more than max_diffs (2)"),
            ({"server_config": {"best": {"metric": "f1", "mode": "max"}}}, "the Plans measure no 'f1'"),
            ({"client_config": {"lr": None}}, "'lr'"),
            ({"client_config": {"lr": "fast"}}, "'lr'"),
            ({"client_config": {"lr": {"schedule": "magic"}}}, "there is no schedule 'magic'"),
            (
                {"client_config": {"batch_size": {"schedule": "step", "start": 8, "factor": 0.1}}},
                "gives 0 in cycle 3",
            ),
            ({}, "there is nothing to set"),
        ],
    )
    async def test_must_be_one_that_could_be_hosted(self, peer, changes, why):
        await peer.host(server={"max_diffs": 2}, client={"lr": 0.1})
        assert why in await refused(peer, "set", 400, **changes)
        assert (await peer.status())["cycle"]["limit"] == 2

    async def test_keeps_room_for_the_reports_that_its_strategy_needs(self, peer):
        await peer.host(server={"strategy": {"name": "fedbuff", "k": 3}})
        why = await refused(peer, "set", 400, server_config={"max_workers": 2})
        assert "fedbuff needs 3 reports, and 'max_workers' (2) lets no more" in why

    async def test_keeps_the_number_of_diffs_of_its_averaging_plan(self, peer):
        await peer.host(server={}, averaging_plan=plan_for_two())
        assert "was traced for 2 diffs" in await refused(
            peer, "set", 400, server_config={"max_diffs": 3, "min_diffs": 3}
        )

    def test_has_no_key_of_which_nobody_has_thought(self):
        assert set(ServerConfig.model_fields) == CHANGEABLE | set(FIXED)
        assert not CHANGEABLE & set(FIXED)
