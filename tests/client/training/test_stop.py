import asyncio
import functools
import threading

import pytest
import torch

from fedplan.client import PlanTrainer, PlanTrainerCheckpoint, SyftModel
from fedplan.errors import CheckpointError, JobStateError
from tests.client.training_cases import make_plan, make_trainer


def endless() -> PlanTrainer:
    return make_trainer(epochs=10**6)


async def running(trainer: PlanTrainer) -> PlanTrainer:
    trainer.begin()
    while trainer.epoch < 2:
        await asyncio.sleep(0)
    return trainer


async def test_stop_from_another_task_takes_effect_at_the_next_batch() -> None:
    trainer = await running(endless())
    at = (trainer.epoch, trainer.batch_idx)
    checkpoint = await trainer.stop()
    assert trainer.stopped
    assert (checkpoint.epoch, checkpoint.batch) == at
    assert (await trainer.wait()).serialize() == checkpoint.current_model.serialize()


async def test_stop_from_another_thread_waits_there_and_not_here() -> None:
    trainer = await running(endless())
    checkpoint = await asyncio.to_thread(trainer.stop_blocking)
    assert (checkpoint.epoch, checkpoint.batch) == (trainer.epoch, trainer.batch_idx)
    assert trainer.stopped


async def test_stop_can_be_awaited_in_another_threads_event_loop() -> None:
    trainer = await running(endless())
    checkpoints: list[PlanTrainerCheckpoint] = []
    thread = threading.Thread(target=lambda: checkpoints.append(asyncio.run(trainer.stop())))
    thread.start()
    await trainer.wait()
    await asyncio.to_thread(thread.join)
    assert checkpoints[0].current_model.serialize() == trainer.current_model.serialize()


async def test_stop_before_the_first_turn_stops_before_the_first_batch() -> None:
    trainer = endless()
    log: list[str] = []
    for name in ("start", "epoch_start", "batch_start", "stop"):
        trainer.on(name, functools.partial(log.append, name))
    trainer.begin()
    checkpoint = await trainer.stop()
    assert (checkpoint.epoch, checkpoint.batch) == (0, 0)
    assert log == ["start", "epoch_start", "stop"]


@pytest.mark.parametrize(
    ("event", "place"),
    [("start", (0, 0)), ("epoch_start", (0, 0)), ("batch_start", (0, 0)), ("batch_end", (0, 1))],
)
async def test_stop_in_a_handler_returns_at_once_with_the_state_of_that_moment(
    event: str, place: tuple[int, int]
) -> None:
    trainer = endless()
    checkpoints: list[PlanTrainerCheckpoint] = []

    @trainer.on(event)
    async def stop() -> None:
        checkpoints.append(await trainer.stop())

    await trainer.start()
    assert [(c.epoch, c.batch) for c in checkpoints] == [place]
    assert checkpoints[0].current_model.serialize() == trainer.current_model.serialize()


async def test_stop_in_an_epoch_end_handler_stops_before_the_next_epochs_first_batch() -> None:
    trainer = endless()
    trainer.on("epoch_end", trainer.stop)
    await trainer.start()
    assert (trainer.epoch, trainer.batch_idx) == (1, 0)


async def test_stop_without_a_running_training_returns_a_checkpoint() -> None:
    trainer = make_trainer()
    assert (await trainer.stop()).batch == 0
    await trainer.start()
    assert (await trainer.stop()).batch == 7
    assert trainer.stop_blocking().batch == 7


async def test_stop_blocking_in_the_training_thread_is_refused() -> None:
    trainer = await running(endless())
    with pytest.raises(JobStateError, match="await stop"):
        trainer.stop_blocking()
    await trainer.wait()


async def test_a_cancelled_start_leaves_a_training_that_can_be_resumed() -> None:
    trainer = endless()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(trainer.start(), 0.05)
    assert trainer.stopped
    trainer.epochs = trainer.epoch + 1
    await trainer.resume()
    assert not trainer.stopped


async def test_a_cancelled_wait_lets_the_training_go_on() -> None:
    trainer = await running(endless())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(trainer.wait(), 0.02)
    assert not trainer.stopped
    epoch = trainer.epoch
    async with asyncio.timeout(10):
        while trainer.epoch == epoch:
            await asyncio.sleep(0.01)
    await trainer.stop()


async def test_a_cancelled_stop_still_stops() -> None:
    trainer = await running(endless())
    task = asyncio.create_task(trainer.stop())
    await asyncio.sleep(0)
    task.cancel()
    await trainer.wait()
    assert trainer.stopped


async def test_start_without_resume_begins_anew() -> None:
    trainer = make_trainer()
    stops = iter([3])
    trainer.on("batch_end", lambda e: trainer.stop() if e.batch == 3 and next(stops, None) else None)
    await trainer.start()
    assert trainer.batch_idx == 4
    await trainer.start()
    whole = make_trainer()
    await whole.start()
    assert trainer.current_model.serialize() == whole.current_model.serialize()


async def test_a_running_training_takes_no_checkpoint() -> None:
    trainer = await running(endless())
    with pytest.raises(JobStateError, match="is running"):
        trainer.apply_checkpoint(trainer.create_checkpoint())
    await trainer.stop()


def test_a_checkpoint_brings_its_own_numbers() -> None:
    checkpoint = PlanTrainerCheckpoint(
        epochs=9,
        steps_per_epoch=2,
        batch_size=13,
        client_config={"lr": 2.0},
        epoch=5,
        batch=1,
        current_model=make_trainer().current_model,
    )
    trainer = make_trainer(checkpoint=checkpoint, batch_size=None, client_config=None)
    assert trainer.stopped
    assert (trainer.epochs, trainer.steps_per_epoch, trainer.batch_size) == (9, 2, 13)
    assert (trainer.epoch, trainer.batch_idx, trainer.client_config) == (5, 1, {"lr": 2.0})
    assert trainer.batches_per_epoch == 2


def test_a_checkpoint_of_another_model_is_refused() -> None:
    good = make_trainer().create_checkpoint()
    other = PlanTrainerCheckpoint(**{**vars(good), "current_model": SyftModel([torch.zeros(2)])})
    with pytest.raises(CheckpointError, match="another model or Plan: the model has 4 parameters"):
        make_trainer(checkpoint=other)
    foreign = PlanTrainerCheckpoint(**{**vars(good), "optimizer_state": SyftModel([torch.zeros(2)])})
    with pytest.raises(CheckpointError, match="optimizer"):
        make_trainer(plan=make_plan("Adam"), checkpoint=foreign)
