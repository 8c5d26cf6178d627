"""A training that is stopped in a cycle goes on in it in another process, and nowhere else."""

import asyncio
import json
import pathlib
import signal
import sys
from typing import Any

import pytest

from fedplan.client import Job, ModelCentricFLClient, PlanTrainerCheckpoint, Syft, participate_async
from fedplan.client.cycle.place import Place, check_cycle
from fedplan.errors import CheckpointError, GridResponseError
from tests.client.small_grid import SmallGrid
from tests.client.training_cases import BATCH, make_data, make_module, make_plan, make_trainer

ROOT = pathlib.Path(__file__).parents[3]
IMAGES, LABELS = make_data()


async def host(owner: ModelCentricFLClient, name: str, **server_config: Any) -> None:
    await owner.host_federated_training_async(
        make_module(0.5),
        {"training_plan": make_plan("Adam", dropout=0.5)},
        {"name": name, "version": "1.0", "batch_size": BATCH, "lr": 0.05},
        server_config,
        variants=[],
    )


async def run(how: str, url: str, model: str, path: pathlib.Path) -> int:
    arguments = ("-W", "error", "-m", "tests.client.resume_in_cycle", how, url, model, str(path))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT)
    return await process.wait()


@pytest.mark.some(2)
@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_a_training_resumed_in_a_new_process_completes_its_cycle_with_the_same_bits(
    url: str, owner: ModelCentricFLClient, tmp_path: pathlib.Path, scheme: str
) -> None:
    made = []
    for name, steps in {
        f"whole {scheme}": {"whole": 0},
        f"stopped {scheme}": {"stopped": -signal.SIGKILL, "resumed": 0},
    }.items():
        await host(owner, name, min_workers=1, num_cycles=1)
        for how, code in steps.items():
            assert await run(how, url.replace("http", scheme), name, tmp_path / "checkpoint.json") == code
        model = await owner.wait_async(name, "1.0", finished=True, timeout=30)
        assert (model.cycle.accepted, model.cycle.reported) == (1, 1)
        made.append((await owner.retrieve_model_async(name, "1.0", 2)).serialize())
    assert made[0] == made[1]
    assert made[0] != (await owner.retrieve_model_async(name, "1.0", 1)).serialize()
    (row,) = await owner.history_async(name, "1.0")
    assert row.samples == len(IMAGES)


async def stopped(job: Job) -> PlanTrainerCheckpoint:
    """A checkpoint of a training that was stopped after its second batch."""
    training = job.train("training_plan", data=IMAGES, target=LABELS)
    training.on("batch_end", lambda e: training.stop() if e.batch == 1 else None)
    await training.wait()
    return PlanTrainerCheckpoint.from_json(None, json.dumps(training.create_checkpoint().to_dict()))


async def test_a_training_of_a_cycle_that_is_over_is_not_gone_on_with(
    url: str, owner: ModelCentricFLClient
) -> None:
    await host(owner, "over", max_diffs=1, num_cycles=2)
    async with Syft(url) as syft:
        job = syft.new_job("over", "1.0")
        await job.start()
        checkpoint = await stopped(job)
        await participate_async(url, "over", "1.0", IMAGES, LABELS)
        await owner.wait_async("over", "1.0", checkpoint=2, timeout=30)

        with pytest.raises(CheckpointError, match=r"cycle 1 of 'over' 1\.0 cannot .*over; .*train anew"):
            await job.resume(checkpoint)
        await job.start()
        with pytest.raises(CheckpointError, match=r"in cycle 1 of 'over' 1\.0, and the job is in cycle 2"):
            job.train("training_plan", data=IMAGES, target=LABELS, checkpoint=checkpoint)
        trained = await job.train("training_plan", data=IMAGES, target=LABELS).wait()
        await job.report(job.model.diff(trained).serialize())
    await owner.wait_async("over", "1.0", finished=True, timeout=30)


async def test_another_worker_of_the_same_cycle_may_go_on_with_a_training(
    url: str, owner: ModelCentricFLClient
) -> None:
    await host(owner, "handed on", max_diffs=1, num_cycles=1)
    async with Syft(url) as syft:
        first, second = (syft.new_job("handed on", "1.0") for _ in range(2))
        await first.start()
        checkpoint = await stopped(first)
        await second.start()
        assert second.worker_id != first.worker_id
        trained = await second.train(
            "training_plan", data=IMAGES, target=LABELS, checkpoint=checkpoint
        ).wait()
        await second.report(second.model.diff(trained).serialize())
    await owner.wait_async("handed on", "1.0", finished=True, timeout=30)


async def test_a_resumed_job_is_in_the_cycle_as_the_worker_that_it_was(
    url: str, owner: ModelCentricFLClient
) -> None:
    await host(owner, "the same", max_diffs=1, num_cycles=2)
    async with Syft(url) as syft:
        first = syft.new_job("the same", "1.0")
        await first.start()
        checkpoint = await stopped(first)
        job = syft.new_job("the same", "1.0")
        await job.resume(checkpoint)
        assert (job.worker_id, job.cycle) == (first.worker_id, first.cycle)
        assert job.client_config == first.client_config
        assert list(job.plans) == list(first.plans)
        assert job.model.serialize() == first.model.serialize()
        await job.report(job.model.diff(checkpoint.current_model).serialize())
        with pytest.raises(GridResponseError, match="reported"):
            await first.report(first.model.diff(checkpoint.current_model).serialize())
        await owner.wait_async("the same", "1.0", checkpoint=2, timeout=30)
        await job.start()
        assert (job.worker_id, job.cycle) == (first.worker_id, 2)
        await job.decline()


async def test_a_checkpoint_of_no_cycle_or_of_another_model_cannot_be_resumed(grid: SmallGrid) -> None:
    async with Syft(grid.url) as syft:
        with pytest.raises(CheckpointError, match="does not say in which cycle"):
            await syft.new_job("m", "1.0").resume(make_trainer().create_checkpoint())
        with pytest.raises(CheckpointError, match="from_json"):
            await syft.new_job("m", "1.0").resume({})  # type: ignore[arg-type]
        job = syft.new_job("m", "1.0")
        await job.start()
        checkpoint = await stopped(job)
        for name, version in (("n", "1.0"), ("m", "2.0")):
            with pytest.raises(CheckpointError, match=r"model 1 of 'm' 1\.0, and the job is of"):
                await syft.new_job(name, version).resume(checkpoint)


async def test_a_browsers_checkpoint_is_taken_in_any_cycle(grid: SmallGrid) -> None:
    async with Syft(grid.url) as syft:
        job = syft.new_job("m", "1.0")
        await job.start()
        made = make_trainer().create_checkpoint().to_dict()
        assert "place" not in made
        checkpoint = PlanTrainerCheckpoint.from_json(syft, made)
        training = job.train("training_plan", data=IMAGES, target=LABELS, checkpoint=checkpoint)
        await training.wait()
        assert training.create_checkpoint().place is not None


async def test_the_request_key_is_in_the_json_and_in_no_text_that_a_log_may_hold(grid: SmallGrid) -> None:
    async with Syft(grid.url) as syft:
        job = syft.new_job("m", "1.0")
        await job.start()
        checkpoint = await stopped(job)
    assert checkpoint.to_dict()["place"] == {
        "model": "m",
        "version": "1.0",
        "workerId": "w-1",
        "requestKey": "secret-key",
        "modelId": 1,
        "plans": {"training_plan": 10},
        "protocols": {},
        "summary": False,
        "task": "training",
    }
    assert "secret-key" not in repr(checkpoint) + str(checkpoint.place)


PLACE = {
    "model": "m",
    "version": "1",
    "workerId": "w",
    "requestKey": "k",
    "modelId": 1,
    "plans": {},
    "protocols": {},
}


def place(**changes: Any) -> Place:
    return Place.from_dict(PLACE | changes)


def test_cycles_are_told_apart_by_model_checkpoint_and_number() -> None:
    check_cycle(place(cycle=2), place(cycle=2, workerId="x", requestKey="y"))
    check_cycle(place(cycle=2), None)
    check_cycle(None, place(cycle=2))
    for change in ({"cycle": 3}, {"modelId": 2}, {"model": "n"}, {"version": "2"}, {"cycle": None}):
        with pytest.raises(CheckpointError, match="difference would be wrong"):
            check_cycle(place(cycle=2), place(**{"cycle": 2, **change}))


def test_where_the_grid_tells_no_number_only_the_same_place_is_the_same_cycle() -> None:
    check_cycle(place(), place())
    with pytest.raises(CheckpointError):
        check_cycle(place(), place(requestKey="another"))


@pytest.mark.parametrize("change", [{"requestKey": None}, {"modelId": "one"}, {"plans": [1]}, {"cycle": "x"}])
def test_a_place_that_cannot_be_read_is_an_error_that_repeats_nothing_of_it(change: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=f"place cannot be read: '{next(iter(change))}'"):
        place(**change)
