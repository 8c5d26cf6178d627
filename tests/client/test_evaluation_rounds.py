"""Workers that only measure a model, over real sockets: after its last cycle, on request, beside training."""

import asyncio
import re
from typing import Any

import httpx
import pytest
import torch

from fedplan.client import Job, ModelCentricFLClient, Syft, participate_async
from fedplan.errors import ConfigError, CycleRejectedError, GridResponseError, JobStateError, WaitTimeoutError
from tests.client.measured import BATCH, LR, TRAINING, data_of, host, measured, net

OWN = data_of(1, 12)


async def train(url: str, name: str, **options: Any) -> Any:
    return await participate_async(url, name, "1.0", *OWN, **options)


async def reports_taken(url: str) -> float:
    """How many reports the grid has taken, of whatever model and kind."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{url}/metrics")).text
    return sum(
        map(float, re.findall(r'^fedplan_reports_total{outcome="accepted"} (\S+)$', text, re.MULTILINE))
    )


class TestAfterTheLastCycle:
    @pytest.mark.parametrize("scheme", ["http", "ws"])
    async def test_workers_that_stay_measure_the_last_checkpoint(
        self, url: str, owner: ModelCentricFLClient, scheme: str
    ) -> None:
        name = f"last {scheme}"
        await host(owner, name, max_diffs=2, num_cycles=2)
        data = [data_of(1, 12), data_of(2, 30)]
        done = await asyncio.gather(
            *(
                participate_async(url.replace("http", scheme), name, "1.0", *own, cycles=None, wait=30.0)
                for own in data
            )
        )
        assert [(one.cycles, one.evaluations, one.refused) for one in done] == [(2, 1, 0)] * 2
        status = await owner.wait_async(name, "1.0", evaluated=True, timeout=30)
        assert (status.phase, status.cycle.task, status.checkpoints[0].number) == (
            "finished",
            "evaluation",
            3,
        )
        rows = await owner.history_async(name, "1.0")
        assert [(row.cycle, row.task, row.checkpoint) for row in rows] == [
            (1, "training", 1),
            (2, "training", 2),
            (3, "evaluation", 3),
        ]
        last = await owner.retrieve_model_async(name, "1.0")
        loss, share = measured(last.params, *data)
        assert rows[2].metrics["loss"].value == pytest.approx(loss, rel=1e-5)
        assert rows[2].metrics["accuracy"].value == pytest.approx(share, rel=1e-5)
        assert (rows[2].reports, rows[2].samples, rows[2].workers) == (2, 42.0, 2)
        assert set(rows[2].metrics) == {"loss", "accuracy"}

    async def test_nobody_comes_and_it_ends_with_nothing_measured(
        self, url: str, owner: ModelCentricFLClient
    ) -> None:
        await host(owner, "left", max_diffs=1, num_cycles=1, evaluation={"length": 1.5})
        await train(url, "left")
        status = await owner.wait_async("left", "1.0", finished=True, timeout=10)
        assert (status.cycle.task, status.cycle.phase) == ("evaluation", "open")
        with pytest.raises(
            WaitTimeoutError, match="no evaluated last checkpoint after 0 s: the evaluation has"
        ):
            await owner.wait_async("left", "1.0", evaluated=True, timeout=0)
        await owner.wait_async("left", "1.0", evaluated=True, timeout=10)
        row = (await owner.history_async("left", "1.0"))[1]
        assert (row.task, row.phase, row.reports, row.metrics) == ("evaluation", "done", 0, {})

    async def test_a_client_that_only_trains_hears_that_the_model_is_finished(
        self, url: str, owner: ModelCentricFLClient
    ) -> None:
        await host(owner, "trains", max_diffs=1, num_cycles=1)
        await train(url, "trains")
        await owner.wait_async("trains", "1.0", finished=True, timeout=10)
        async with Syft(url) as syft:
            with pytest.raises(CycleRejectedError, match="takes no more workers"):
                await syft.new_job("trains", "1.0").start()

    async def test_a_model_without_an_evaluation_plan_has_none(
        self, url: str, owner: ModelCentricFLClient
    ) -> None:
        config = {"name": "plain", "version": "1.0", "batch_size": BATCH, "lr": LR}
        plans = {"training_plan": TRAINING}
        with pytest.raises(GridResponseError, match="'evaluation' is set, and there is no Plan"):
            await owner.host_federated_training_async(net(), plans, config, {"evaluation": {"fraction": 0.1}})
        await owner.host_federated_training_async(net(), plans, config, {"max_diffs": 1, "num_cycles": 1})
        with pytest.raises(ConfigError, match="without a Plan 'evaluation_plan'"):
            await owner.wait_async("plain", "1.0", evaluated=True, timeout=10)
        with pytest.raises(
            GridResponseError, match="without a Plan 'evaluation_plan', so nothing measures it"
        ):
            await owner.evaluate_async("plain", "1.0")
        await train(url, "plain")
        status = await owner.wait_async("plain", "1.0", finished=True, timeout=10)
        assert status.cycle.closed_at is not None


class TestOnRequest:
    async def test_a_finished_model_is_measured_again_by_whoever_asks(
        self, url: str, owner: ModelCentricFLClient
    ) -> None:
        await host(owner, "again", max_diffs=1, num_cycles=1)
        with pytest.raises(GridResponseError, match="is still trained") as refused:
            await owner.evaluate_async("again", "1.0")
        assert refused.value.status == 409
        await train(url, "again", cycles=None, wait=True)
        await owner.wait_async("again", "1.0", evaluated=True, timeout=10)

        assert await owner.evaluate_async("again", "1.0") == 3
        assert await owner.evaluate_async("again", "1.0") == 3  # it is open already
        other = data_of(9, 25)
        done = await participate_async(url, "again", "1.0", *other, cycles=None, wait=True)

        assert (done.cycles, done.evaluations) == (0, 1)
        await owner.wait_async("again", "1.0", evaluated=True, timeout=10)
        rows = await owner.history_async("again", "1.0")
        last = await owner.retrieve_model_async("again", "1.0")
        assert [row.checkpoint for row in rows] == [1, 2, 2]
        assert rows[1].metrics["loss"].value == pytest.approx(measured(last.params, OWN)[0], rel=1e-5)
        assert rows[2].metrics["loss"].value == pytest.approx(measured(last.params, other)[0], rel=1e-5)


class TestBesideTraining:
    async def trained(self, job: Job, own: Any) -> Any:
        model = await job.train("training_plan", data=own[0], target=own[1]).wait()
        await job.report(await job.model.create_serialized_diff_from_model(model))
        return model

    async def measures(self, job: Job, own: Any) -> None:
        assert list(job.plans) == ["evaluation_plan"]
        await job.evaluate(data=own[0], target=own[1])
        await job.report()

    async def test_a_fraction_of_the_workers_measures_and_the_average_is_of_the_others(
        self, url: str, owner: ModelCentricFLClient
    ) -> None:
        await host(owner, "beside", max_diffs=2, num_cycles=1, evaluation={"fraction": 0.5})
        others, jobs = [data_of(worker, 8) for worker in range(4)], []
        async with Syft(url) as syft:
            for _ in range(4):
                job: Job = syft.new_job("beside", "1.0", evaluates=True)
                await job.start()
                jobs.append(job)
            assert [job.task for job in jobs] == ["training", "evaluation"] * 2
            first, measures, second, late = jobs
            trained = [await self.trained(first, others[0])]
            await self.measures(measures, others[1])
            assert (await owner.status_async("beside")).models[0].cycle.reported == 1
            trained.append(await self.trained(second, others[2]))
            await owner.wait_async("beside", "1.0", finished=True, timeout=10)
            with pytest.raises(GridResponseError, match="comes too late"):
                await self.measures(late, others[3])
        row = (await owner.history_async("beside", "1.0"))[0]
        start = await owner.retrieve_model_async("beside", "1.0", 1)
        loss, _ = measured(start.params, others[1])
        assert row.metrics["loss"].value == pytest.approx(loss, rel=1e-5)
        assert (row.reports, row.workers, row.metrics["loss"].workers) == (2, 4, 1)
        last = await owner.retrieve_model_async("beside", "1.0")
        for ours, one, other in zip(last.params, *(model.params for model in trained), strict=True):
            torch.testing.assert_close(ours, (one + other) / 2, rtol=0, atol=1e-6)

    async def test_a_worker_that_participates_does_what_it_is_given(
        self, url: str, owner: ModelCentricFLClient
    ) -> None:
        await host(owner, "given", max_diffs=1, num_cycles=4, evaluation={"fraction": 0.5})
        before = await reports_taken(url)
        async with Syft(url) as syft, asyncio.timeout(20), asyncio.TaskGroup() as group:
            job = syft.new_job("given", "1.0")
            await job.start()  # so that the next worker is one that measures
            done = group.create_task(train(url, "given", cycles=1, wait=20.0))
            while await reports_taken(url) == before:
                await asyncio.sleep(0.05)
            await self.trained(job, OWN)
        assert ((await done).cycles, (await done).evaluations) == (1, 1)


class TestAPlaceForEvaluationAlone:
    @pytest.fixture
    async def job(self, url: str, owner: ModelCentricFLClient, request: pytest.FixtureRequest) -> Any:
        name = request.node.name
        await host(owner, name, max_diffs=1, num_cycles=1)
        await train(url, name)
        await owner.wait_async(name, "1.0", finished=True, timeout=10)
        async with Syft(url) as syft:
            job = syft.new_job(name, "1.0", evaluates=True)
            await job.start()
            yield job

    async def test_says_what_to_do_in_it(self, job: Job) -> None:
        assert job.task == "evaluation"
        with pytest.raises(JobStateError, match="for evaluation alone, without the Plan 'training_plan'"):
            job.train("training_plan", data=OWN[0], target=OWN[1])
        with pytest.raises(JobStateError, match=r"nothing was measured yet: await job\.evaluate"):
            await job.report()
        await job.evaluate(data=OWN[0], target=OWN[1])
        with pytest.raises(JobStateError, match=r"await job\.report\(\) without a diff"):
            await job.report(job.model.serialize())
        await job.report()

    async def test_can_be_given_back(self, job: Job, owner: ModelCentricFLClient) -> None:
        name = job.model_name
        await job.decline()
        assert job.task is None
        assert (await owner.status_async(name)).models[0].cycle.accepted == 0
        await job.start()
        await job.evaluate(data=OWN[0], target=OWN[1])
        await job.report()
        await owner.wait_async(name, "1.0", evaluated=True, timeout=10)
