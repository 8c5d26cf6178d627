"""What workers tell of their training and of the model, and what its owner sees of it, over real sockets."""

import asyncio
import csv
import io
import pathlib
from typing import Any

import pytest
import torch
from torch import Tensor

from fedplan.client import Job, ModelCentricFLClient, PlanTrainer, Syft, SyftModel, participate_async
from fedplan.data import DataLoader, TensorDataset
from fedplan.errors import ConfigError, GridResponseError, JobStateError
from fedplan.plan import model_parameters
from fedplan.wire import MetricMean, Summary
from tests.client.measured import BATCH, EVALUATION, LR, TRAINING, data_of, host, measured, net


def trainer(x: Tensor, y: Tensor, **options: Any) -> PlanTrainer:
    model = SyftModel(model_parameters(net()))
    options = {"batch_size": BATCH, "client_config": {"lr": LR}} | options
    return PlanTrainer(plan=TRAINING, model=model, data=x, target=y, **options)


class TestASummary:
    async def test_holds_samples_steps_and_means_over_samples(self) -> None:
        x, y = data_of(1, 10)  # batches of 4, 4 and 2
        training = trainer(x, y, epochs=2)
        losses: list[tuple[float, int]] = []
        sizes = [4, 4, 2] * 2
        training.on("batch_end", lambda batch: losses.append((batch.loss, sizes[len(losses)])))
        await training.start()
        summary = training.summary
        assert (summary.samples, summary.steps) == (10.0, 6)
        mean = sum(loss * size for loss, size in losses) / 20
        assert summary.metrics["loss"].value == pytest.approx(mean)
        assert summary.metrics["loss"].weight == 20.0
        assert set(summary.metrics) == {"loss", "accuracy"}

    async def test_counts_what_was_used_and_not_what_is_there(self) -> None:
        training = trainer(*data_of(1, 100), epochs=3, steps_per_epoch=2)
        await training.start()
        assert (training.summary.samples, training.summary.steps) == (8.0, 6)

    async def test_is_the_same_when_the_training_was_stopped_and_went_on_elsewhere(self) -> None:
        x, y = data_of(1, 10)
        whole = trainer(x, y, epochs=3)
        await whole.start()
        first = trainer(x, y, epochs=3)
        first.on("batch_end", lambda batch: setattr(first, "stopped", (batch.epoch, batch.batch) == (1, 1)))
        await first.start()
        text = first.create_checkpoint().to_dict()
        other = trainer(x, y, checkpoint=type(first.create_checkpoint()).from_json(None, text))
        await other.resume()
        assert other.summary == whole.summary

    async def test_leaves_out_what_is_not_finite(self) -> None:
        x, y = data_of(1, 8)
        training = trainer(x * 1e38, y, client_config={"lr": 1e30}, epochs=3)
        await training.start()
        assert training.summary.samples == 8.0
        assert "loss" not in training.summary.metrics

    async def test_of_a_data_loader_counts_its_batches(self) -> None:
        x, y = data_of(1, 10)
        training = trainer(DataLoader(TensorDataset(x, y), batch_size=3), None, batch_size=None)
        await training.start()
        assert (training.summary.samples, training.summary.steps) == (10.0, 4)


SIZES = (12, 30)


async def test_a_model_is_measured_by_its_workers_before_each_training(
    url: str, owner: ModelCentricFLClient, tmp_path: pathlib.Path
) -> None:
    await host(owner, "measured", min_diffs=2, max_diffs=2, num_cycles=2)
    data = [data_of(number, size) for number, size in enumerate(SIZES)]
    await asyncio.gather(
        *(participate_async(url, "measured", "1.0", *own, cycles=2, wait=30.0, verbose=True) for own in data)
    )
    await owner.wait_async("measured", "1.0", finished=True, timeout=30)

    history = await owner.history_async("measured", "1.0")

    assert [(row.cycle, row.checkpoint, row.workers, row.reports, row.samples) for row in history] == [
        (1, 1, 2, 2, 42.0),
        (2, 2, 2, 2, 42.0),
    ]
    for row in history:
        checkpoint = await owner.retrieve_model_async("measured", "1.0", row.checkpoint)
        loss, share = measured(checkpoint.params, *data)
        assert row.metrics["loss"].value == pytest.approx(loss, rel=1e-5)
        assert row.metrics["accuracy"].value == pytest.approx(share, rel=1e-5)
        assert (row.metrics["loss"].weight, row.metrics["loss"].workers) == (42.0, 2)
        assert row.metrics["training_loss"].value < row.metrics["loss"].value
    assert history[1].metrics["loss"].value < history[0].metrics["loss"].value


async def test_the_average_is_weighted_by_what_workers_trained_on(
    url: str, owner: ModelCentricFLClient
) -> None:
    await host(owner, "weighted", min_diffs=2, max_diffs=2, num_cycles=1)
    data = [data_of(number, size) for number, size in enumerate(SIZES)]
    ends = []
    for x, y in data:
        alone = trainer(x, y)
        await alone.start()
        ends.append(alone.current_model.params)
    await asyncio.gather(
        *(participate_async(url, "weighted", "1.0", *own, wait=30.0, verbose=True) for own in data)
    )
    await owner.wait_async("weighted", "1.0", finished=True, timeout=30)
    trained = await owner.retrieve_model_async("weighted", "1.0")
    for ours, one, other in zip(trained.params, *ends, strict=True):
        torch.testing.assert_close(ours, (12 * one + 30 * other) / 42, rtol=0, atol=1e-6)


async def test_a_worker_may_measure_on_other_data_and_tell_other_numbers(
    url: str, owner: ModelCentricFLClient
) -> None:
    await host(owner, "told", max_diffs=2, num_cycles=1)
    own, held_out = data_of(0, 8), data_of(7, 5)
    await participate_async(
        url, "told", "1.0", *own, evaluation_data=held_out[0], evaluation_target=held_out[1], verbose=True
    )
    async with Syft(url, verbose=True) as syft:
        job: Job = syft.new_job("told", "1.0")
        with pytest.raises(JobStateError):
            await job.evaluate(data=own[0], target=own[1])
        await job.start()
        told = await job.evaluate(data=held_out[0], target=held_out[1])
        model = await job.train("training_plan", data=own[0], target=own[1]).wait()
        diff = await job.model.create_serialized_diff_from_model(model)
        numbers = {"accuracy": MetricMean(0.5, 1.0), "mood": MetricMean(0.5, 1.0)}  # no Plan measures a mood
        summary = Summary(samples=3.0, metrics=numbers)
        await job.report(diff, summary=summary)
    loss, share = measured(model_parameters(net()), held_out)
    assert told == {"loss": pytest.approx(loss), "accuracy": pytest.approx(share)}
    await owner.wait_async("told", "1.0", finished=True, timeout=30)
    (row,) = await owner.history_async("told", "1.0")
    assert row.samples == 11.0
    assert row.metrics["loss"].value == pytest.approx(loss)
    assert row.metrics["loss"].workers == 1
    assert row.metrics["training_accuracy"].workers == 2
    assert "training_mood" not in row.metrics


async def test_samples_that_only_measured_the_model_do_not_weigh_a_training(
    url: str, owner: ModelCentricFLClient
) -> None:
    await host(owner, "by hand", max_diffs=2, num_cycles=1)
    own, held_out = data_of(0, 8), data_of(7, 30)
    async with Syft(url, verbose=True) as syft:
        first: Job = syft.new_job("by hand", "1.0")
        await first.start()
        await first.evaluate(data=held_out[0], target=held_out[1])
        changed = [param + 1 for param in first.model.params]  # trained by no Plan
        await first.report(await first.model.create_serialized_diff_from_model(SyftModel(changed)))
        second: Job = syft.new_job("by hand", "1.0")
        await second.start()
        model = await second.train("training_plan", data=own[0], target=own[1]).wait()
        await second.report(await second.model.create_serialized_diff_from_model(model))
    await owner.wait_async("by hand", "1.0", finished=True, timeout=30)
    (row,) = await owner.history_async("by hand", "1.0")
    assert (row.samples, row.metrics["loss"].workers) == (8.0, 1)
    averaged = await owner.retrieve_model_async("by hand", "1.0")
    for ours, one, other in zip(averaged.params, changed, model.params, strict=True):
        torch.testing.assert_close(ours, (one + other) / 2, rtol=0, atol=1e-6)


async def test_a_history_can_be_read_in_several_ways(url: str, owner: ModelCentricFLClient) -> None:
    await host(owner, "read", max_diffs=1, num_cycles=1)
    assert list(await owner.history_async("read", "1.0")) == []
    with pytest.raises(ConfigError, match="no cycle has a metric 'loss'; its metrics are: none yet"):
        (await owner.history_async("read", "1.0")).values("loss")
    await participate_async(url, "read", "1.0", *data_of(0, 8), verbose=True)
    await owner.wait_async("read", "1.0", finished=True, timeout=30)
    history = await owner.history_async("read", "1.0")
    assert history.metrics == ["accuracy", "loss", "training_accuracy", "training_loss"]
    assert history.values("loss") == {1: history[0].metrics["loss"].value}
    (line,) = csv.DictReader(io.StringIO(history.to_csv()))
    assert float(line["loss"]) == history[0].metrics["loss"].value
    assert line["reports"] == "1"
    assert repr(history).startswith("<History of 1 cycle, the last with 1 report, accuracy 0.")
    with pytest.raises(GridResponseError, match=r"hosts no model 'read' version '2\.0'"):
        await owner.history_async("read", "2.0")


async def test_what_cannot_measure_is_not_hosted(owner: ModelCentricFLClient) -> None:
    from fedplan.errors import PlanError

    config = {"name": "no", "version": "1.0", "batch_size": BATCH, "lr": LR}
    for plans, why in (
        ({"evaluation_plan": EVALUATION}, "there is none that trains it"),
        ({"training_plan": TRAINING, "evaluation_plan": TRAINING}, "may only measure it"),
    ):
        with pytest.raises(PlanError, match=why):
            await owner.host_federated_training_async(net(), plans, config, {})


async def test_the_best_checkpoint_and_the_end_of_a_training(url: str, owner: ModelCentricFLClient) -> None:
    config = {"name": "goals", "version": "1.0", "batch_size": BATCH}
    lr = {"schedule": "values", "values": [0.5, -5.0]}  # the second cycle makes the model worse
    plans = {"training_plan": TRAINING, "evaluation_plan": EVALUATION}
    server = {
        "max_diffs": 1,
        "best": {"metric": "loss", "mode": "min"},
        "stop": {"metric": "loss", "mode": "min", "patience": 1},
    }
    await owner.host_federated_training_async(net(), plans, {**config, "lr": lr}, server)
    with pytest.raises(GridResponseError, match="no checkpoint of the model 'goals' has a measured loss yet"):
        await owner.retrieve_model_async("goals", "1.0", "best")
    done = await participate_async(url, "goals", "1.0", *data_of(0, 8), cycles=9, wait=20.0, verbose=True)

    assert (done.cycles, done.evaluations) == (3, 1)
    status = await owner.wait_async("goals", "1.0", evaluated=True, timeout=20)
    assert status.phase == "finished"
    losses = (await owner.history_async("goals", "1.0")).values("loss")
    assert losses[2] < losses[1] < losses[3]
    assert losses[4] != losses[3]  # of the checkpoint that cycle 3 made
    best = await owner.retrieve_model_async("goals", "1.0", "best")
    second = await owner.retrieve_model_async("goals", "1.0", 2)
    assert all(torch.equal(a, b) for a, b in zip(best.params, second.params, strict=True))


async def test_goals_that_nothing_measures_are_refused(owner: ModelCentricFLClient) -> None:
    config = {"name": "no goal", "version": "1.0", "batch_size": BATCH, "lr": LR}
    server = {"stop": {"metric": "accurracy", "mode": "max", "value": 1.0}}
    with pytest.raises(GridResponseError, match="measure no 'accurracy'; they measure training_accuracy"):
        await owner.host_federated_training_async(net(), {"training_plan": TRAINING}, config, server)
