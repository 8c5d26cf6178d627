"""Reports of workers that only measure a model, as the grid takes, refuses and keeps them."""

import asyncio

import pytest
import torch

from fedplan.plan import PlanInputSpec, PlanOutputSpec, trace
from fedplan.wire import MetricMean, State, Summary, with_summary
from tests.grid.models import base64_of, diff, hosting, training_plan
from tests.grid.peers import Worker

TELLS = {"summary": True, "evaluates": True}


def _measure(x, y, w, b):
    error = x @ w + b - y
    return (error * error).mean()


def evaluation_plan(result=None):
    kinds, results = PlanInputSpec, PlanOutputSpec
    return trace(
        _measure,
        torch.zeros(4, 3),
        torch.zeros(4, 2),
        torch.zeros(3, 2),
        torch.zeros(2),
        name="evaluation_plan",
        inputs=[
            kinds(kinds.TYPE_DATA),
            kinds(kinds.TYPE_TARGET),
            kinds(kinds.TYPE_MODEL_PARAM, index=0),
            kinds(kinds.TYPE_MODEL_PARAM, index=1),
        ],
        outputs=[result or results(results.TYPE_LOSS)],
    ).serialize()


PLANS = {"training_plan": training_plan().hex(), "evaluation_plan": evaluation_plan().hex()}


def measurement(loss, samples=10.0):
    metrics = {"loss": MetricMean(loss, samples)}
    return with_summary(State.of(()).serialize(), Summary(samples=samples, evaluation=metrics))


async def host(peer, **server):
    await peer.host(plans=PLANS, server={"max_diffs": 1, "num_cycles": 1, **server})


async def join(peer) -> Worker:
    worker_id = await peer.authenticate()
    return Worker(peer, worker_id, await peer.ask(worker_id, **TELLS))


async def finish(peer):
    await (await peer.join()).report(1.0)
    await peer.until(lambda model: model["phase"] == "finished" and model["cycle"]["task"] == "evaluation")


async def history(peer):
    reply = await peer.http.get("/model-centric/history", params={"name": "m"})
    return reply.json()["rows"]


async def closed(peer):
    await peer.until(lambda model: "closed_at" in model["cycle"])


@pytest.mark.parametrize(
    ("metric", "why"),
    [
        ("training_loss", "'training_loss', as what is measured in a training"),
        ("update_norm", "'update_norm', as what is measured by the grid"),
    ],
)
async def test_a_plan_whose_metric_has_the_name_of_another_is_refused(peer, metric, why):
    plan = evaluation_plan(PlanOutputSpec(PlanOutputSpec.TYPE_METRIC, metric))
    message = hosting(
        plans={**PLANS, "evaluation_plan": plan.hex()}, server={"max_diffs": 1, "metrics": ["update_norm"]}
    )
    reply = await peer.post("host-training", **message)
    assert reply.status_code == 400
    assert why in reply.json()["error"]


async def test_such_a_place_opens_the_evaluation_plan_alone(peer):
    await host(peer)
    await finish(peer)
    worker = await join(peer)
    assert worker.accepted["task"] == "evaluation"
    assert list(worker.accepted["plans"]) == ["evaluation_plan"]
    assert "task" not in (await peer.ask(await peer.authenticate(), summary=True))


async def test_a_place_for_training_says_nothing_new(peer):
    await host(peer)
    worker = await join(peer)
    assert "task" not in worker.accepted
    assert set(worker.accepted["plans"]) == {"training_plan", "evaluation_plan"}


async def test_metrics_come_from_what_workers_tell_in_json_and_as_bytes(peer):
    await host(peer, evaluation={"reports": 2})
    await finish(peer)
    one, other = await join(peer), await join(peer)
    assert (await one.report(diff=base64_of(measurement(1.0, 10)))).status_code == 200
    keys = {"worker_id": other.worker_id, "request_key": other.request_key}
    reply = await peer.http.post(
        "/model-centric/report",
        params=keys,
        content=measurement(4.0, 30),
        headers={"content-type": "application/octet-stream"},
    )
    assert reply.status_code == 200
    await closed(peer)
    row = (await history(peer))[-1]
    assert row["metrics"] == {"loss": {"value": 3.25, "weight": 40.0, "workers": 2}}
    assert (row["task"], row["checkpoint"], row["reports"], row["samples"]) == ("evaluation", 2, 2, 40.0)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (base64_of(diff(1.0)), "no tensors"),
        (base64_of(State.of(()).serialize()), "a summary of what the evaluation Plan measured"),
        ("?", "not base64"),
        (base64_of(b"\xff\xff"), "cannot be read"),
        ("A" * 300_000, "far larger"),
    ],
)
async def test_what_is_no_measurement_is_refused_and_a_good_one_still_taken(peer, sent, why):
    await host(peer)
    await finish(peer)
    worker = await join(peer)
    reply = await worker.report(diff=sent)
    assert reply.status_code == 400
    assert why in reply.json()["error"]
    for value, status in ((1.0, 200), (1.0, 200), (2.0, 409)):
        assert (await worker.report(diff=base64_of(measurement(value)))).status_code == status


async def test_a_measurement_that_comes_many_times_at_once_is_counted_once(peer):
    await host(peer, evaluation={"reports": 2})
    await finish(peer)
    worker = await join(peer)
    sent = base64_of(measurement(1.0))
    replies = await asyncio.gather(*(worker.report(diff=sent) for _ in range(20)))
    assert {reply.status_code for reply in replies} == {200}
    assert (await peer.status())["cycle"]["reported"] == 1


async def test_a_measurement_in_the_place_of_a_diff_is_refused(peer):
    await host(peer)
    reply = await (await join(peer)).report(diff=base64_of(measurement(1.0)))
    assert reply.status_code == 400
    assert "the diff does not fit the model" in reply.json()["error"]


async def test_a_late_report_of_a_training_does_not_count_as_a_measurement(peer):
    strategy = {"name": "fedbuff", "k": 1, "staleness": 5}
    await peer.host(plans=PLANS, server={"strategy": strategy, "num_cycles": 1, "evaluation": {"reports": 2}})
    slow, fast = await peer.join(), await peer.join()
    assert (await fast.report(1.0)).status_code == 200
    await peer.until(lambda model: model["cycle"]["task"] == "evaluation")
    reply = await slow.report(1.0)
    assert reply.status_code == 409
    assert "its cycle is over" in reply.json()["error"]
    assert (await peer.status())["cycle"]["reported"] == 0


async def test_those_set_aside_in_a_cycle_count_only_in_its_metrics(peer):
    await host(peer, max_diffs=3, evaluation={"fraction": 0.5})
    trains, measures = await join(peer), await join(peer)
    assert measures.accepted["task"] == "evaluation"
    assert (await peer.status())["cycle"]["accepted"] == 1
    await measures.report(diff=base64_of(measurement(2.0)))
    await trains.report(1.0)
    cycle = (await peer.status())["cycle"]
    assert (cycle["phase"], cycle["accepted"], cycle["reported"]) == ("open", 1, 1)
    for value in (2.0, 3.0):
        await (await peer.join()).report(value)
    await peer.until_checkpoint(2)
    (row, *_) = await history(peer)
    assert row["metrics"] == {"loss": {"value": 2.0, "weight": 10.0, "workers": 1}}
    assert (row["reports"], row["workers"]) == (3, 4)
    assert (await peer.checkpoint())[1].tolist() == [-2.0, -2.0]


async def test_a_cycle_does_not_wait_for_those_set_aside(peer):
    await host(peer, min_diffs=None, max_diffs=None, min_workers=1, evaluation={"fraction": 0.5})
    trains, measures = await join(peer), await join(peer)
    await trains.report()
    await peer.until_checkpoint(2)
    reply = await measures.report(diff=base64_of(measurement(1.0)))
    assert reply.status_code == 409


async def test_one_that_declines_leaves_the_count_of_the_others_as_it_is(peer):
    await host(peer, max_diffs=3, evaluation={"fraction": 0.5})
    _, measures = await join(peer), await join(peer)
    message = {"worker_id": measures.worker_id, "request_key": measures.request_key}
    assert (await peer.post("decline", **message)).status_code == 200
    assert (await peer.status())["cycle"]["accepted"] == 1


async def test_a_grid_that_is_started_again_has_what_was_measured(open_grid):
    async with open_grid() as peer:
        await host(peer, evaluation={"reports": 2})
        await finish(peer)
        await (await join(peer)).report(diff=base64_of(measurement(1.0)))
        keeps = await join(peer)
    async with open_grid() as peer:
        again = Worker(peer, keeps.worker_id, keeps.accepted)
        assert (await again.report(diff=base64_of(measurement(2.0)))).status_code == 200
        await closed(peer)
        assert (await history(peer))[-1]["metrics"]["loss"]["value"] == 1.5


async def test_it_is_the_owner_who_asks_for_one(open_grid):
    async with open_grid(owner_token="secret") as peer:
        assert (await peer.post("evaluate", name="m")).status_code == 401
