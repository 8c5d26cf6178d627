"""What becomes of the reports of a cycle, by the model's weights and strategy."""

import asyncio
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from torch import nn

from fedplan.federation import ServerState
from fedplan.grid.store import catalogue, rounds
from fedplan.plan import from_torch, model_parameters, module_state, trace, training_plan
from fedplan.wire import MetricMean, State, Summary, WireTensor, with_summary
from fedplan.wire.compression import compress
from tests.grid.models import base64_of, diff, hosting, iterative_plan
from tests.grid.service.test_evaluating import PLANS


async def report(worker, value, **told):
    """Reports a diff of one value, and tells something beside it."""
    sent = base64_of(with_summary(diff(value), Summary(**told)))
    reply = await worker.report(diff=sent)
    assert reply.status_code == 200, reply.text


async def run_cycle(peer, *reports):
    """One worker for each (value, what it tells)."""
    number = (await peer.status())["cycle"]["number"]
    workers = [await peer.join(summary=True) for _ in reports]
    for worker, (value, told) in zip(workers, reports, strict=True):
        await report(worker, value, **told)
    await peer.until(lambda model: model["cycle"]["number"] > number or model["phase"] == "finished")


async def bias(peer):
    return float((await peer.checkpoint())[1][0])


class TestWeights:
    async def test_a_report_counts_as_many_as_its_samples(self, peer):
        await peer.host(server={"max_diffs": 3})
        await run_cycle(peer, (1, {"samples": 10.0}), (2, {"samples": 30.0}), (5, {"samples": 60.0}))
        assert await bias(peer) == pytest.approx(-(10 + 60 + 300) / 100)

    async def test_who_tells_nothing_counts_as_the_mean_of_those_who_tell(self, peer):
        await peer.host(server={"max_diffs": 3})
        await run_cycle(peer, (1, {"samples": 10.0}), (2, {"samples": 30.0}), (5, {}))
        assert await bias(peer) == pytest.approx(-(10 + 60 + 100) / 60)

    async def test_when_nobody_tells_all_count_the_same(self, peer):
        await peer.host(server={"max_diffs": 3})
        await run_cycle(peer, (1, {}), (2, {}), (6, {}))
        assert await bias(peer) == pytest.approx(-3)

    async def test_uniform_weights_are_what_the_owner_may_wish(self, peer):
        await peer.host(server={"max_diffs": 2, "weighting": "uniform"})
        await run_cycle(peer, (1, {"samples": 10.0}), (3, {"samples": 1000.0}))
        assert await bias(peer) == pytest.approx(-2)

    async def test_no_report_counts_more_than_the_owner_allows(self, peer):
        await peer.host(server={"max_diffs": 2, "max_weight": 30, "untold_weight": 10})
        await run_cycle(peer, (1, {}), (3, {"samples": 1e9}))
        assert await bias(peer) == pytest.approx(-(10 + 90) / 40)

    async def test_a_sum_that_was_lost_is_the_same_from_the_blobs(self, open_grid):
        values = [
            (float(v), {"samples": s})
            for v, s in zip(default_rng(1).normal(size=5), (3.0, 7.0, None, 1.0, 0.5), strict=True)
        ]
        found = []
        for sums in (0, 1 << 20):
            async with open_grid(sums_bytes=sums) as peer:
                await peer.host(f"m{sums}", server={"max_diffs": 5})
                workers = [await peer.join(f"m{sums}") for _ in values]
                for worker, (value, told) in zip(workers, values, strict=True):
                    await report(worker, value, **told)
                await peer.until(lambda model: model["cycle"]["number"] == 2, f"m{sums}")
                found.append((await peer.checkpoint(f"m{sums}"))[0].tobytes())
        assert found[0] == found[1]


ADAM = {"max_diffs": 2, "strategy": {"name": "fedadam", "lr": 0.5}}


class TestAStrategyWithState:
    def expected(self, *averages):
        m, v, x = 0.0, 1e-6, 0.0
        for average in averages:
            m, v = 0.9 * m + 0.1 * average, 0.99 * v + 0.01 * average**2
            x -= 0.5 * m / (np.sqrt(v) + 1e-3)
        return x

    async def test_goes_on_with_it_in_the_next_cycle_and_after_a_restart(self, open_grid):
        async with open_grid() as peer:
            await peer.host(server=ADAM)
            await run_cycle(peer, (1, {}), (3, {}))
            await run_cycle(peer, (-1, {}), (2, {}))
            worker = await peer.join()
            await report(worker, 5.0)
        async with open_grid() as peer:
            await report(await peer.join(), 1.0)
            await peer.until_checkpoint(4)
            assert await bias(peer) == pytest.approx(self.expected(2, 0.5, 3), abs=1e-6)

    async def test_keeps_it_beside_each_checkpoint(self, peer):
        await peer.host(server=ADAM)
        await run_cycle(peer, (1, {}), (3, {}))
        grid = peer.app.state.grid
        async with grid.store.reading() as db:
            first = await catalogue.find_checkpoint(db, 1, 1)
            second = await catalogue.find_checkpoint(db, 1, 2)
        assert first.state is None
        kept = ServerState.parse(await grid.blobs.get(second.state))
        assert kept.tensors["m"][1].tolist() == pytest.approx([0.2, 0.2])


class TestMetrics:
    async def test_are_kept_with_the_cycle_weighted_by_samples(self, peer):
        await peer.host(plans=PLANS, server={"max_diffs": 2, "metrics": ["update_norm"]})
        told = [
            {
                "samples": samples,
                "metrics": {"loss": MetricMean(trained, samples), "mood": MetricMean(1.0, samples)},
                "evaluation": {
                    "loss": MetricMean(measured, samples),
                    "training_loss": MetricMean(9.0, samples),
                },
            }
            for samples, trained, measured in ((10.0, 2.0, 0.5), (30.0, 1.0, 0.9))
        ]
        await run_cycle(peer, (1, told[0]), (2, told[1]))
        async with peer.app.state.grid.store.reading() as db:
            ((cycle, _),) = await rounds.history(db, 1)
        means = {name: metric.mean.value for name, metric in cycle.summary.metrics.items()}
        assert means == {
            "training_loss": 1.25,
            "loss": 0.8,
            "update_norm": pytest.approx(1.75 * np.sqrt(8)),
        }
        assert (cycle.summary.reports, cycle.summary.samples) == (2, 40.0)

    async def test_are_few_where_the_plans_do_not_say_what_they_return(self, peer):
        plan = trace(lambda x: x * 2, torch.zeros(3)).serialize().hex()
        await peer.host(plans={"p": plan}, server={"max_diffs": 2})
        loss = {"loss": MetricMean(2.0, 5.0)}
        many = [{f"x{worker}-{n}": MetricMean(1.0, 1.0) for n in range(99)} for worker in (1, 2)]
        await run_cycle(peer, *((1, {"metrics": loss | more}) for more in many))
        ((row,),) = [(await peer.http.get("/model-centric/history", params={"name": "m"})).json()["rows"]]
        assert len(row["metrics"]) == 20
        assert row["metrics"]["training_loss"] == {"value": 2.0, "weight": 10.0, "workers": 2}

    async def test_are_kept_where_a_plan_averages_too(self, peer):
        await peer.host(server={"max_diffs": 2, "iterative_plan": True}, averaging_plan=iterative_plan())
        loss = {"metrics": {"loss": MetricMean(2.0, 5.0)}}
        await run_cycle(peer, (1, loss), (2, loss))
        async with peer.app.state.grid.store.reading() as db:
            ((cycle, _),) = await rounds.history(db, 1)
        assert cycle.summary.metrics["training_loss"].mean == MetricMean(2.0, 10.0)


class TestAGoal:
    STOP: ClassVar = {"stop": {"metric": "loss", "mode": "min", "patience": 2}}

    async def measure(self, peer, loss):
        await run_cycle(peer, (0, {"evaluation": {"loss": MetricMean(loss, 1.0)}}))

    async def test_is_reached_by_the_metrics_of_all_cycles_of_which_each_is_read_once(
        self, open_grid, monkeypatch
    ):
        read, history = [], rounds.history

        async def noted(*arguments):
            found = await history(*arguments)
            read.append([cycle.number for cycle, _ in found])
            return found

        monkeypatch.setattr(rounds, "history", noted)
        async with open_grid() as peer:
            await peer.host(plans=PLANS, server={"max_diffs": 1, **self.STOP})
            for loss in (3.0, 2.0, 2.5):
                await self.measure(peer, loss)
            assert read == [[], [1], [2]]
        async with open_grid() as peer:
            await self.measure(peer, 2.0)  # two in succession are no better than the second
            assert read[3:] == [[1, 2, 3]]
            model = await peer.status()
            assert (model["phase"], model["cycle"]["task"]) == ("finished", "evaluation")


class TestWhatAStrategyNeeds:
    async def test_is_asked_of_who_wants_to_train(self, peer):
        await peer.host(server={"max_diffs": 2, "strategy": "fednova"})
        assert await peer.ask(await peer.authenticate()) == {"status": "rejected"}
        withheld = {one["client"]: one["why"] for one in (await peer.status())["withheld"]}
        assert withheld["syft.js"][-1] == "the strategy fednova needs the steps, which it cannot tell"
        assert "fedplan" not in withheld

    async def test_is_asked_of_each_report(self, peer):
        await peer.host(server={"max_diffs": 2, "strategy": "fednova"})
        worker = await peer.join(summary=True)
        reply = await worker.report(1)
        assert reply.status_code == 400
        assert "fednova, needs to know the steps of a training" in reply.json()["error"]
        await report(worker, 1.0, steps=2)
        await report(await peer.join(summary=True), 6.0, steps=4)
        await peer.until_checkpoint(2)
        assert await bias(peer) == pytest.approx(-3 * (0.5 * 0.5 + 0.5 * 1.5))


class TestFedBuff:
    """Asynchronous training: each K reports make a checkpoint, and late reports count less."""

    SERVER: ClassVar = {"strategy": {"name": "fedbuff", "k": 2, "staleness": 2}, "weighting": "uniform"}

    async def test_takes_a_late_report_into_the_cycle_of_then(self, peer):
        await peer.host(server=self.SERVER)
        slow = await peer.join()
        for value in (1, 3):
            await report(await peer.join(), value)
        await peer.until_checkpoint(2)
        assert await bias(peer) == pytest.approx(-2)
        await report(slow, 4.0)
        await report(await peer.join(), 1.0)
        await peer.until_checkpoint(3)
        assert await bias(peer) == pytest.approx(-2 - (4 / np.sqrt(2) + 1) / 2)

    async def test_takes_every_report_also_when_cycles_close_while_they_come(self, peer):
        strategy = {"name": "fedbuff", "k": 2, "staleness": 30}
        await peer.host(server={"strategy": strategy, "weighting": "uniform"})
        workers = [await peer.join() for _ in range(40)]
        replies = await asyncio.gather(*(worker.report(1.0) for worker in workers))
        assert [reply.status_code for reply in replies] == [200] * 40
        await peer.until_checkpoint(21)
        rows = (await peer.http.get("/model-centric/history", params={"name": "m"})).json()["rows"]
        assert [row["reports"] for row in rows] == [2] * 20

    async def test_takes_no_report_that_is_too_late(self, peer):
        await peer.host(server=self.SERVER)
        slow = await peer.join()
        for checkpoint in (2, 3, 4):
            for _ in range(2):
                await report(await peer.join(), 0.0)
            await peer.until_checkpoint(checkpoint)
        reply = await slow.report(1)
        assert reply.status_code == 409
        assert "comes too late" in reply.json()["error"]

    async def test_takes_each_report_once(self, peer):
        await peer.host(server=self.SERVER)
        slow = await peer.join()
        for _ in range(2):
            await report(await peer.join(), 0.0)
        await peer.until_checkpoint(2)
        await report(slow, 1.0)
        assert (await slow.report(1)).status_code == 200  # its answer may have been lost
        assert (await slow.report(2)).status_code == 409
        assert (await peer.status())["cycle"]["reported"] == 1

    async def test_counts_late_reports_the_same_after_a_restart(self, open_grid):
        async with open_grid() as peer:
            await peer.host(server=self.SERVER)
            slow = await peer.join()
            for value in (1, 3):
                await report(await peer.join(), value)
            await peer.until_checkpoint(2)
            await report(slow, 4.0)
        async with open_grid() as peer:
            await report(await peer.join(), 1.0)
            await peer.until_checkpoint(3)
            assert await bias(peer) == pytest.approx(-2 - (4 / np.sqrt(2) + 1) / 2)


class TestRobustRules:
    async def test_a_liar_does_not_move_the_median(self, open_grid, tmp_path):
        async with open_grid() as peer:
            await peer.host(server={"max_diffs": 5, "strategy": "median", "num_cycles": 2, "max_norm": 1e9})
            await run_cycle(peer, *[(value, {"samples": 7.0}) for value in (1, 2, 3, 4, -1e6)])
            assert await bias(peer) == pytest.approx(-2)
            await run_cycle(peer, *[(1, {})] * 4, (1e6, {}))
            assert await bias(peer) == pytest.approx(-3)
        assert not list((tmp_path / "scratch").iterdir())  # the file has no name, and is gone

    async def test_smaller_reports_are_seen_as_they_are_meant(self, peer):
        await peer.host(server={"max_diffs": 3, "strategy": "median", "report_formats": ["int8"]})
        for value in (1.0, 2.0, 8.0):
            small = compress(State.parse(diff(value)).tensors, "int8").serialize()
            assert (await (await peer.join()).report(diff=base64_of(small))).status_code == 200
        await peer.until_checkpoint(2)
        assert await bias(peer) == pytest.approx(-2, rel=1e-2)

    async def test_a_report_is_clipped_before_the_rule_sees_it(self, peer):
        server = {"max_diffs": 3, "strategy": {"name": "median", "clip_norm": 0.5}}
        await peer.host(server=server)
        await run_cycle(peer, (1, {}), (2, {}), (3, {}))
        assert await bias(peer) == pytest.approx(-0.5 / np.sqrt(8))

    async def test_centred_clipping_remembers_its_centre(self, open_grid):
        server = {"max_diffs": 1, "strategy": {"name": "centred_clipping", "tau": 0.1, "iterations": 1}}
        async with open_grid() as peer:
            await peer.host(server=server)
            await run_cycle(peer, (9, {}))
            assert await bias(peer) == pytest.approx(-0.1 / np.sqrt(8), rel=1e-5)
        async with open_grid() as peer:
            await run_cycle(peer, (9, {}))
            assert await bias(peer) == pytest.approx(-0.3 / np.sqrt(8), rel=1e-5)


class TestHosting:
    @pytest.mark.parametrize(
        ("server", "why"),
        [
            ({"strategy": "fedsgd"}, "none with the name 'fedsgd'; there are"),
            ({"strategy": {"name": "fedadam", "beta": 1}}, "'beta' is not a key of it; the keys are name"),
            ({"strategy": "fedbuff", "cycle_length": 5}, "whose only threshold is its k"),
            ({"strategy": "scaffold"}, "'population': Field required"),
            ({"metrics": ["x"]}, "metrics: there is no 'x'"),
        ],
    )
    async def test_what_cannot_work_is_refused(self, peer, server, why):
        reply = await peer.post("host-training", **hosting(server=server))
        assert reply.status_code == 400
        assert why in reply.json()["error"]


class Normalised(nn.Module):
    """A batch norm that counts its batches, and says so in what it computes."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.batches += 1
        return self.norm(x) / self.batches


async def test_counters_and_running_statistics_are_no_business_of_the_optimizer(peer):
    """A batch norm's variance is averaged, and its counter is the largest, whatever the strategy."""
    torch.manual_seed(0)
    model = nn.Sequential(Normalised(), nn.Linear(3, 1))
    plan = training_plan(model, nn.functional.mse_loss, example=(torch.randn(4, 3), torch.randn(4, 1)))
    tensors = [from_torch(tensor) for tensor in model_parameters(model)]
    names = list(module_state(model))
    mean, variance, counter = map(names.index, ("0.norm.running_mean", "0.norm.running_var", "0.batches"))
    await peer.host(
        model=State.of(tensors).serialize(),
        plans={"training_plan": plan.serialize().hex()},
        server={"max_diffs": 2, "strategy": "fedadam"},
    )

    for batches, seen, samples in ((3, 0.5, 10.0), (7, 1.0, 30.0)):
        diff = [WireTensor(np.ones_like(tensor.array), tensor.dtype) for tensor in tensors]
        diff[counter] = WireTensor(np.array(-batches, np.int32), "int32")
        diff[mean] = WireTensor(np.full(3, -seen, np.float32), "float32")
        diff[variance] = WireTensor(np.full(3, seen, np.float32), "float32")
        worker = await peer.join(summary=True)
        sent = base64_of(with_summary(State.of(diff).serialize(), Summary(samples=samples)))
        assert (await worker.report(diff=sent)).status_code == 200
    await peer.until_checkpoint(2)

    after = await peer.checkpoint()
    assert after[counter] == 7
    np.testing.assert_allclose(after[mean], np.full(3, 0.875))
    np.testing.assert_allclose(after[variance], np.full(3, 0.125))
    np.testing.assert_allclose(after[0], 1.0 - 0.1 * 0.1 / (0.1 + 1e-3), rtol=1e-4)
