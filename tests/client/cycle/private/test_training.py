"""Private tensors: each worker keeps its own from cycle to cycle, and the grid hears nothing of them."""

import asyncio
import dataclasses
import json
import logging
import pathlib
from typing import Any

import httpx
import pybase64
import pytest
import torch
from torch import Tensor

from fedplan.client import (
    ModelCentricFLClient,
    PlanTrainer,
    PlanTrainerCheckpoint,
    Syft,
    SyftModel,
    participate_async,
)
from fedplan.errors import CheckpointError, GridResponseError, PlanInputError
from fedplan.plan import Plan, from_torch, model_parameters, training_plan
from fedplan.wire import State
from tests.client.cycle.private.personal import CONFIG, PRIVATE, Personal, by_hand, data_of
from tests.client.cycle.private.personal_grid import (
    assert_kept,
    checkpoint,
    host,
    only_file,
    train,
)
from tests.client.small_grid import SmallGrid


async def test_two_workers_train_a_body_together_and_each_its_own_head(
    tmp_path: pathlib.Path, url: str, plan: Plan
) -> None:
    await host(url, plan, diffs=2)
    ws = url.replace("http", "ws")
    await asyncio.gather(
        *(train(u, n, cycles=3, state=tmp_path / f"worker {n}") for n, u in enumerate((url, ws)))
    )
    expected, own = by_hand(plan, workers=2, cycles=3)
    for place, (ours, theirs) in enumerate(zip(await checkpoint(url, 4), expected, strict=True)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        assert torch.equal(ours, model_parameters(Personal())[place]) == (place in PRIVATE)
    for worker in range(2):
        assert_kept(tmp_path / f"worker {worker}", own[worker])


async def test_a_run_goes_on_with_what_the_last_one_left_in_the_folder(
    tmp_path: pathlib.Path, url: str, plan: Plan
) -> None:
    await host(url, plan)
    for _ in range(3):
        await train(url, state=tmp_path / "mine")
    assert_kept(tmp_path / "mine", by_hand(plan, 1, 3)[1][0])
    assert oct(only_file(tmp_path / "mine").stat().st_mode)[-3:] == "600"


async def test_without_a_folder_it_lasts_as_long_as_the_job_and_one_warning_says_so(
    caplog: pytest.LogCaptureFixture, url: str, plan: Plan
) -> None:
    await host(url, plan)
    await train(url, cycles=2)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len([text for text in warnings if "pass state=FOLDER" in text]) == 1
    expected, _ = by_hand(plan, 1, 2)
    for ours, theirs in zip(await checkpoint(url, 3), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    async with Syft(url, verbose=True) as syft:
        job = syft.new_job("personal", "1.0")
        await job.start()
        for place in PRIVATE:
            assert torch.equal(job.model.params[place], model_parameters(Personal())[place])


async def test_a_model_without_private_tensors_warns_of_nothing_and_leaves_no_state(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    await host(url, training_plan(Personal(), torch.nn.functional.cross_entropy, example=data_of(0)))
    await train(url)
    await train(url, state=tmp_path / "mine")
    assert not [r for r in caplog.records if "private" in r.getMessage()]
    assert not list((tmp_path / "mine").glob("*.json"))


async def test_the_grid_refuses_a_report_that_would_change_private_tensors(url: str, plan: Plan) -> None:
    await host(url, plan)
    async with Syft(url, verbose=True) as syft, httpx.AsyncClient(base_url=url) as plain:
        job = syft.new_job("personal", "1.0")
        await job.start()
        model = await job.train("training_plan", data=data_of(0)[0], target=data_of(0)[1]).wait()
        pairs = list(zip(job.model.params, model.params, strict=True))
        whole = State.of([from_torch(a - b) for a, b in pairs]).serialize()
        with pytest.raises(GridResponseError, match=r"changes tensor 2, which .* private to each worker"):
            await job.report(whole)
        keys = {"worker_id": job.worker_id, "request_key": job._place.request_key}
        text = {**keys, "diff": pybase64.b64encode_as_string(whole)}
        answer = await plain.post("/model-centric/report", json=text)
        assert answer.status_code == 400
        assert "private" in answer.json()["error"]
        part = State.parse(await job.model.create_serialized_diff_from_model(model))
        assert part.places == (0, 1)
        await job.report(job.model.diff(model).serialize())  # all tensors, with zeros for the private ones
    for place, tensor in enumerate(await checkpoint(url, 2)):
        assert torch.equal(tensor, model_parameters(Personal())[place]) == (place in PRIVATE)


async def test_a_grid_that_does_not_know_of_parts_gets_zeros_for_private_tensors(
    grid: SmallGrid, plan: Plan
) -> None:
    grid.model, grid.plans = SyftModel(model_parameters(Personal())), {"training_plan": plan}
    grid.client_config = dict(CONFIG)
    await participate_async(grid.url, "personal", "1.0", *data_of(0), verbose=True)
    for place, tensor in enumerate(grid.diffs[0].params):
        assert bool(tensor.any()) == (place not in PRIVATE)


async def test_a_resumed_training_knows_the_private_tensors_as_it_began(url: str) -> None:
    """With a penalty on the distance to the head as it was, stopped, and resumed in another process."""

    def ditto(output: Tensor, target: Tensor, step: Any) -> Tensor:
        apart = (step.parameters["head.weight"] - step.received["head.weight"]).square().sum()
        return torch.nn.functional.cross_entropy(output, target) + apart

    await host(url, training_plan(Personal(), ditto, example=data_of(0), private=["head.*", "norm.*"]))
    x, y = data_of(0)
    async with Syft(url, verbose=True) as syft:
        job = syft.new_job("personal", "1.0")
        await job.start()
        model = await job.train("training_plan", data=x, target=y).wait()
        await job.report(await job.model.create_serialized_diff_from_model(model))
        await checkpoint(url, 2)
        await job.start()
        assert torch.equal(job.model.params[2], model.params[2])
        whole = await job.train("training_plan", data=x, target=y).wait()
        stopped = job.train("training_plan", data=x, target=y)
        stopped.on("batch_end", stopped.stop)
        await stopped.wait()
        kept = json.loads(json.dumps(stopped.create_checkpoint().to_dict()))
        another = syft.new_job("personal", "1.0")  # without a folder, as in another process
        await another.start()
        assert not torch.equal(another.model.params[2], model.params[2])
        resumed = another.train(
            "training_plan", data=x, target=y, checkpoint=PlanTrainerCheckpoint.from_json(syft, kept)
        )
        for ours, theirs in zip((await resumed.wait()).params, whole.params, strict=True):
            assert torch.equal(ours, theirs)
        del kept["privateStateBase64"]
        assert PlanTrainerCheckpoint.from_json(syft, kept).private_state == {}


@pytest.mark.parametrize("wrong", ["?", "", "AAAA", 7])
async def test_a_checkpoint_with_a_wrong_private_state_is_refused(plan: Plan, wrong: Any) -> None:
    trainer = PlanTrainer(
        plan=plan,
        model=SyftModel(model_parameters(Personal())),
        data=data_of(0)[0],
        target=data_of(0)[1],
        batch_size=8,
        client_config={"lr": 0.1},
    )
    made = trainer.create_checkpoint()
    assert sorted(made.private_state) == list(PRIVATE)
    with pytest.raises(CheckpointError, match="privateStateBase64"):
        PlanTrainerCheckpoint.from_json(None, {**made.to_dict(), "privateStateBase64": wrong})
    with pytest.raises(CheckpointError, match="the private tensors are"):
        trainer.apply_checkpoint(dataclasses.replace(made, private_state={0: torch.ones(5, 6)}))


async def test_browsers_and_phones_are_not_given_the_model(url: str, plan: Plan) -> None:
    await host(url, plan, variants=None)
    async with ModelCentricFLClient(url) as owner:
        (model,) = (await owner.status_async("personal")).models
    withheld = {item.client: " ".join(item.why) for item in model.withheld}
    assert {"syft.js", "KotlinSyft", "SwiftSyft"} <= withheld.keys()
    assert [variant.variant for variant in model.plans[0].variants] == ["list"]


async def test_a_plan_that_would_report_what_another_keeps_private_is_not_hosted(
    url: str, plan: Plan
) -> None:
    other = training_plan(Personal(), torch.nn.functional.cross_entropy, example=data_of(0))
    async with ModelCentricFLClient(url) as owner:
        with pytest.raises(PlanInputError, match=r"tensor 2 .* private in the Plan 'a', and trained in"):
            await owner.host_federated_training_async(
                Personal(), {"a": plan, "b": other}, CONFIG, {"max_diffs": 1}, variants=[]
            )
    body = {
        "model": State.of(map(from_torch, model_parameters(Personal()))).serialize().hex(),
        "plans": {"a": plan.serialize().hex(), "b": other.serialize().hex()},
        "client_config": CONFIG,
        "server_config": {"max_diffs": 1},
    }
    async with httpx.AsyncClient(base_url=url) as plain:
        answer = await plain.post("/model-centric/host-training", json=body)
    assert answer.status_code == 400
    assert "private in the Plan 'a', and trained in the Plan 'b'" in answer.json()["error"]
