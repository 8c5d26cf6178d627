"""Differential privacy on a grid: what is released, what is spent, and when nothing more may be."""

import asyncio

import numpy as np
import pytest

from fedplan.federation.privacy import epsilon_after, multiplier_for
from tests.grid.averaging.test_killed import Killable
from tests.grid.models import MODEL, base64_of, diff, hosting
from tests.grid.service.test_identities import CHECKED, joined, token

PRIVACY = {"clip": 1.0, "noise_multiplier": 2.0, "cohort": 2, "delta": 1e-5}


def told(**privacy):
    return CHECKED | {"max_diffs": 2, "privacy": PRIVACY | privacy}


async def history(peer):
    reply = await peer.http.get("/model-centric/history", params={"name": "m"})
    assert reply.status_code == 200, reply.text
    return reply.json()["rows"]


async def run_cycle(peer, *values):
    number = (await peer.status())["cycle"]["number"]
    for who, value in enumerate(values):
        reply = await (await joined(peer, f"{who}")).report(value)
        assert reply.status_code == 200, reply.text
    return await peer.until(lambda model: model["cycle"]["number"] > number or model["phase"] == "finished")


async def refusal(peer, **changes):
    reply = await peer.post("host-training", **hosting(**changes))
    assert reply.status_code == 400, reply.text
    return reply.json()["error"]


class TestACheckpoint:
    async def test_is_the_model_minus_the_sum_of_clipped_reports_with_noise_over_the_cohort(self, peer):
        await peer.host(server=told(noise_multiplier=1e-3, cohort=4))
        await run_cycle(peer, 1e30, 0.01)  # the first one counts as much as its clip
        new = await peer.checkpoint()
        clipped = 1 / np.sqrt(8)  # the model has eight numbers
        for before, after in zip(MODEL, new, strict=True):
            np.testing.assert_allclose(after, before - (clipped + 0.01) / 4, atol=5e-3)

    async def test_has_noise_of_which_none_is_like_another(self, peer):
        await peer.host(server=told())
        changes = []
        for _ in range(3):
            before = await peer.checkpoint()
            await run_cycle(peer, 0.0, 0.0)
            after = await peer.checkpoint()
            changes.append(np.concatenate([np.ravel(b - a) for b, a in zip(before, after, strict=True)]))
        every = np.concatenate(changes)
        assert 0.5 < every.std() < 1.7  # σ / cohort is 1
        assert len(set(every.tolist())) == len(every)

    async def test_says_nothing_of_samples_and_metrics_of_workers(self, peer):
        await peer.host(server=told())
        await run_cycle(peer, 0.1, 0.2)
        (row,) = await history(peer)
        assert (row["samples"], row["metrics"], row["reports"]) == (0, {}, 2)


class TestTheLedger:
    async def test_tells_of_each_cycle_what_it_spent_and_of_all_together(self, peer):
        await peer.host(server=told())
        for _ in range(3):
            await run_cycle(peer, 0.1, 0.2)
        rows = await history(peer)
        assert [row["privacy"]["epsilon"] for row in rows] == [
            pytest.approx(epsilon_after(cycles, 2.0, 1e-5)) for cycles in (1, 2, 3)
        ]
        assert rows[1]["privacy"] == {
            "mechanism": "central discrete Gaussian",
            "noise_multiplier": 2.0,
            "sigma": 2.0,
            "clip": 1.0,
            "clipping": "fixed",
            "participants": 2,
            "cohort": 2,
            "checkpoint": 3,
            "delta": 1e-5,
            "epsilon": rows[1]["privacy"]["epsilon"],
        }
        assert (await peer.status())["privacy"] == {
            "epsilon": rows[2]["privacy"]["epsilon"],
            "delta": 1e-5,
            "cycles": 3,
        }

    async def test_is_a_gauge(self, peer):
        await peer.host(server=told())
        await run_cycle(peer, 0.1, 0.2)
        found = (await peer.http.get("/metrics")).text
        line = next(line for line in found.splitlines() if line.startswith("fedplan_model_privacy_epsilon{"))
        assert float(line.split()[-1]) == pytest.approx(epsilon_after(1, 2.0, 1e-5))

    async def test_charges_a_cycle_that_failed_too(self, peer):
        """The noise is so large that float32 cannot hold it: that this is so could tell of the data."""
        largest = told(clip=1e12, noise_multiplier=1e3) | {"strategy": {"name": "fedavg", "lr": 1e30}}
        await peer.host(server=largest)
        model = await run_cycle(peer, 0.1, 0.2)
        assert "infinite" in model["last_failure"]
        (row,) = await history(peer)
        assert row["phase"] == "failed"
        assert "checkpoint" not in row["privacy"]
        assert row["privacy"]["epsilon"] == pytest.approx(epsilon_after(1, 1e3, 1e-5))
        assert model["privacy"]["cycles"] == 1

    async def test_of_a_model_without_privacy_is_nowhere(self, peer):
        await peer.host(server=CHECKED | {"max_diffs": 2})
        model = await run_cycle(peer, 0.1, 0.2)
        assert "privacy" not in model
        assert "privacy" not in (await history(peer))[0]
        assert "privacy_epsilon{" not in (await peer.http.get("/metrics")).text


class TestTheBudget:
    async def test_opens_no_cycle_that_would_exceed_it_and_says_so(self, peer):
        multiplier = multiplier_for(4.0, 1e-5, 2)
        await peer.host(server=told(noise_multiplier=multiplier, max_epsilon=4.0))
        assert (await run_cycle(peer, 0.1, 0.2))["phase"] == "training"
        model = await run_cycle(peer, 0.1, 0.2)
        assert model["phase"] == "finished"
        assert model["privacy"]["epsilon"] <= 4.0 == model["privacy"]["max_epsilon"]
        assert "2 cycles spent an ε of 4 at a δ of 1e-05" in model["privacy"]["ended"]
        late = await peer.authenticate(auth_token=token("late"))
        assert await peer.ask(late) == {"status": "rejected"}  # for good

    async def test_is_enforced_after_a_restart(self, open_grid):
        multiplier = multiplier_for(4.0, 1e-5, 2)
        for left in (1, 0):
            async with open_grid() as peer:
                if left:
                    await peer.host(server=told(noise_multiplier=multiplier, max_epsilon=4.0))
                model = await run_cycle(peer, 0.1, 0.2)
                assert (model["phase"] == "finished") is not bool(left)


class TestAnOwner:
    async def test_gets_no_more_cycles_than_the_budget_has(self, peer):
        multiplier = multiplier_for(4.0, 1e-5, 1)
        await peer.host(server=told(noise_multiplier=multiplier, max_epsilon=4.0))
        await run_cycle(peer, 0.1, 0.2)
        reply = await peer.post("extend", name="m", version="1.0", cycles=1)
        assert reply.status_code == 409, reply.text
        assert "can be trained no more: the privacy budget is spent" in reply.json()["error"]
        assert (await peer.status())["phase"] == "finished"

    async def test_gets_nothing_back_that_was_spent_by_going_back(self, peer):
        await peer.host(server=told())
        await run_cycle(peer, 0.1, 0.2)
        await run_cycle(peer, 0.1, 0.2)
        reply = await peer.post("roll-back", name="m", version="1.0", checkpoint=2)
        assert reply.status_code == 200, reply.text
        await run_cycle(peer, 0.1, 0.2)
        model = await peer.status()
        charged = [row["privacy"]["epsilon"] for row in await history(peer)]
        assert charged == [pytest.approx(epsilon_after(n + 1, 2.0, 1e-5)) for n in range(len(charged))]
        assert model["privacy"]["cycles"] == len(charged) >= 3

    async def test_deletes_the_ledger_with_the_model(self, peer):
        await peer.host(server=told())
        await run_cycle(peer, 0.1, 0.2)
        reply = await peer.post("delete", name="m", version="1.0", force=True)
        assert reply.status_code == 200, reply.text

    async def test_cannot_change_the_privacy(self, peer):
        await peer.host(server=told())
        reply = await peer.post(
            "set", name="m", version="1.0", server_config={"privacy": PRIVACY | {"noise_multiplier": 0.1}}
        )
        assert reply.status_code == 400, reply.text
        assert "'privacy' cannot be changed" in reply.json()["error"]

    async def test_cannot_have_shown_what_workers_measure(self, peer):
        await peer.host(server=told())
        reply = await peer.post("set", name="m", version="1.0", server_config={"metrics": ["update_norm"]})
        assert reply.status_code == 400, reply.text
        assert "without noise" in reply.json()["error"]


class TestHosting:
    @pytest.mark.parametrize("authentication", [{}, {"authentication": {"endpoint": "https://a.example/"}}])
    async def test_needs_tokens_that_name_persons(self, open_grid, authentication):
        async with open_grid(auth_endpoints=["https://a.example/"]) as peer:
            error = await refusal(peer, server={"privacy": PRIVACY} | authentication)
            assert "one person may come as many workers" in error

    async def test_is_refused_by_a_grid_that_keeps_reports(self, open_grid):
        async with open_grid(keep_diffs=True) as peer:
            assert "where reports are kept" in await refusal(peer, server=told())

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"privacy": {"clip": 1.0}}, "noise_multiplier"),
            ({"privacy": PRIVACY | {"delta": 1.0}}, "delta"),
            ({"privacy": PRIVACY | {"noise": 1}}, "'privacy.noise' is not a key"),
            ({"privacy": PRIVACY | {"mechanism": "distributed"}}, "'central'"),
            ({"privacy": PRIVACY, "strategy": "median"}, "one by one"),
            ({"privacy": PRIVACY, "weighting": "samples"}, "'uniform'"),
        ],
    )
    async def test_says_what_is_wrong(self, peer, wrong, why):
        assert why in await refusal(peer, server=CHECKED | wrong)


async def test_a_token_that_names_nobody_is_refused(peer):
    await peer.host(server=told())
    reply = await peer.post("authenticate", model_name="m", model_version="1.0", auth_token=token(None))
    assert reply.status_code == 401
    assert "it needs a 'sub' claim" in reply.json()["error"]


async def test_reports_are_deleted_by_a_grid_that_keeps_those_of_other_models(open_grid, tmp_path):
    async with open_grid() as peer:
        await peer.host(server=told())
    async with open_grid(keep_diffs=True) as peer:
        await run_cycle(peer, 0.1, 0.2)
        async with asyncio.timeout(5):
            while [path for path in (tmp_path / "blobs" / "diffs").rglob("*") if path.is_file()]:
                await asyncio.sleep(0.01)


def test_the_ledger_of_a_grid_that_is_killed_goes_on(tmp_path):
    """It is killed when it has acknowledged the last report of a cycle, and closes that cycle then."""
    grid = Killable(tmp_path)
    try:
        grid.post("host-training", **hosting(server=told()))
        for cycle in (1, 2, 3):
            for who in ("ann", "bob"):
                message = {"model_name": "m", "model_version": "1.0", "auth_token": token(who)}
                worker_id = grid.post("authenticate", **message)["worker_id"]
                answer = grid.post("cycle-request", worker_id=worker_id, model="m", version="1.0")
                keys = {"worker_id": worker_id, "request_key": answer["request_key"]}
                report = base64_of(diff(0.1))
                assert grid.post("report", **keys, diff=report) == {"status": "success"}
            grid.kill()
            grid.until_checkpoint(cycle + 1)
        rows = grid.http.get("/history", params={"name": "m"}).json()["rows"]
    finally:
        grid.end()
    assert [row["privacy"]["epsilon"] for row in rows] == [
        pytest.approx(epsilon_after(cycles, 2.0, 1e-5)) for cycles in (1, 2, 3)
    ]
    assert [row["privacy"]["checkpoint"] for row in rows] == [2, 3, 4]
