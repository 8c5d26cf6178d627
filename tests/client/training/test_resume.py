"""stop → checkpoint → JSON → new process → resume ends in the parameters of a training without a stop."""

import asyncio
import json
import pathlib
import subprocess
import sys

import pytest
import torch

from fedplan.client import PlanTrainer, PlanTrainerCheckpoint
from fedplan.errors import CheckpointError
from tests.client.training_cases import BATCH, SOURCES, make_data, make_plan, make_source, make_trainer

ROOT = pathlib.Path(__file__).parents[3]
STOPS = ((0, 0), (1, 3), (2, 6))  # before the first batch; in the middle; after an epoch's last batch
EPOCHS = 3


async def trained(source: str, stop: tuple[int, int] | None = None) -> PlanTrainer:
    """A training from a fixed seed, stopped after a batch when `stop` names it."""
    torch.manual_seed(21)
    trainer = make_trainer(plan=make_plan("Adam", dropout=0.5), **make_source(source), epochs=EPOCHS, seed=5)
    if stop == (0, 0):
        trainer.on("batch_start", trainer.stop)
    elif stop is not None:
        trainer.on("batch_end", lambda e: trainer.stop() if (e.epoch, e.batch) == stop else None)
    await trainer.start()
    return trainer


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Stops every case, and resumes all of them in one other process."""
    folder = tmp_path_factory.mktemp("resumed")
    for source in SOURCES:
        for stop in STOPS:
            checkpoint = asyncio.run(trained(source, stop)).create_checkpoint().to_dict()
            case = {"source": source, "checkpoint": checkpoint}
            (folder / f"{name(source, stop)}.json").write_text(json.dumps(case))
    subprocess.run([sys.executable, "-W", "error", "-m", "tests.client.resume", folder], cwd=ROOT, check=True)
    return folder


def name(source: str, stop: tuple[int, int]) -> str:
    return f"{source} {stop[0]} {stop[1]}"


@pytest.mark.some(6)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("stop", STOPS)
async def test_a_training_resumed_in_a_new_process_is_bit_identical(
    resumed: pathlib.Path, source: str, stop: tuple[int, int]
) -> None:
    whole = await trained(source)
    assert (resumed / f"{name(source, stop)}.state.pb").read_bytes() == whole.current_model.serialize()


@pytest.mark.parametrize("source", SOURCES)
async def test_a_training_resumed_in_place_is_bit_identical(source: str) -> None:
    whole = await trained(source)
    trainer = await trained(source, (1, 3))
    assert trainer.stopped
    await trainer.resume()
    assert trainer.current_model.serialize() == whole.current_model.serialize()


@pytest.mark.parametrize("source", SOURCES)
async def test_a_checkpoint_of_each_batch_end_goes_on_after_that_batch(source: str) -> None:
    torch.manual_seed(21)
    whole = make_trainer(plan=make_plan("Adam", dropout=0.5), **make_source(source), epochs=2)
    checkpoints: list[PlanTrainerCheckpoint] = []
    whole.on("batch_end", lambda: checkpoints.append(whole.create_checkpoint()))
    await whole.start()
    assert [(c.epoch, c.batch) for c in checkpoints] == [(e, b) for e in (0, 1) for b in range(1, 8)]
    for checkpoint in checkpoints[::3]:
        trainer = make_trainer(
            plan=make_plan("Adam", dropout=0.5), **make_source(source), checkpoint=checkpoint
        )
        await trainer.resume()
        assert trainer.current_model.serialize() == whole.current_model.serialize()


def browser_checkpoint(trainer: PlanTrainer) -> dict[str, object]:
    """What syft.js writes: the reference's keys and no others."""
    keys = ("epochs", "stepsPerEpoch", "batchSize", "clientConfig", "epoch", "batch", "currentModelBase64")
    made = trainer.create_checkpoint().to_dict()
    return {key: made[key] for key in keys}


async def test_a_browsers_checkpoint_resumes_over_tensors() -> None:
    whole = make_trainer(epochs=2)
    await whole.start()
    trainer = make_trainer(epochs=2)
    trainer.on("batch_end", lambda e: trainer.stop() if (e.epoch, e.batch) == (1, 2) else None)
    await trainer.start()
    checkpoint = PlanTrainerCheckpoint.from_json(None, browser_checkpoint(trainer))
    resumed = make_trainer(checkpoint=checkpoint)
    await resumed.resume()
    assert resumed.current_model.serialize() == whole.current_model.serialize()


@pytest.mark.parametrize("source", SOURCES[1:])
async def test_a_browsers_checkpoint_resumes_over_loaders_at_its_batch(source: str) -> None:
    trainer = make_trainer(plan=make_plan("Adam", dropout=0.5), **make_source(source), epochs=2)
    trainer.on("batch_end", lambda e: trainer.stop() if (e.epoch, e.batch) == (0, 4) else None)
    await trainer.start()
    checkpoint = PlanTrainerCheckpoint.from_json(None, browser_checkpoint(trainer))
    batches: list[tuple[int, int]] = []
    resumed = make_trainer(plan=make_plan("Adam", dropout=0.5), **make_source(source), checkpoint=checkpoint)
    resumed.on("batch_start", lambda e: batches.append((e.epoch, e.batch)))
    await resumed.resume()
    assert batches == [(0, 5), (0, 6), *((1, batch) for batch in range(7))]


async def test_a_batch_number_beyond_the_steps_of_an_epoch_ends_the_epoch() -> None:
    """A browser runs one batch more than stepsPerEpoch, so its checkpoint may stand there."""
    made = {**browser_checkpoint(make_trainer(epochs=2)), "stepsPerEpoch": 3, "batch": 4}
    batches: list[tuple[int, int]] = []
    trainer = make_trainer(checkpoint=PlanTrainerCheckpoint.from_json(None, made))
    trainer.on("batch_start", lambda e: batches.append((e.epoch, e.batch)))
    await trainer.resume()
    assert batches == [(1, 0), (1, 1), (1, 2)]


async def test_a_checkpoint_of_other_random_generators_is_refused() -> None:
    trainer = await trained("torch loader with a generator", (0, 2))
    images, labels = make_data()
    dataset = torch.utils.data.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)
    other = make_trainer(
        plan=make_plan("Adam", dropout=0.5), data=loader, target=None, checkpoint=trainer.create_checkpoint()
    )
    with pytest.raises(CheckpointError, match="a loader that is made as it was before"):
        await other.resume()
