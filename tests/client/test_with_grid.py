"""The client against the real grid, over real sockets and in one process."""

import asyncio
import pathlib
from typing import Any

import pytest
import torch
from torch import nn

from fedplan.client import ModelCentricFLClient, Retry, Syft, SyftModel, participate, participate_async
from fedplan.client.transport.api import GridApi
from fedplan.client.transport.exchange import GridAnswer, GridRequest
from fedplan.client.transport.http import HttpTransport
from fedplan.client.transport.url import GridUrl
from fedplan.client.transport.websocket import WebSocketTransport
from fedplan.errors import CycleRejectedError, GridResponseError, PlanLimitError
from fedplan.grid import Settings, create_app
from fedplan.plan import Limits, Plan, PlanInputSpec, PlanOutputSpec, model_parameters
from fedplan.wire import State
from tests.client.training_cases import make_data, make_module, make_plan

FIXTURES = pathlib.Path(__file__).parents[3] / "shared/fixtures"
IMAGES, LABELS = make_data(64)
CLIENT = {"name": "digits", "version": "1.0", "batch_size": 8, "lr": 0.1, "max_updates": 4}


def host(owner: ModelCentricFLClient, name: str, **server_config: Any) -> None:
    owner.host_federated_training(
        make_module(),
        {"training_plan": make_plan()},
        {**CLIENT, "name": name},
        {"min_workers": 1, "max_workers": 8, "min_diffs": 1, "max_diffs": 1, **server_config},
        variants=[],
    )


def wait_for_checkpoint(owner: ModelCentricFLClient, name: str, number: int) -> SyftModel:
    owner.wait(name, "1.0", checkpoint=number, timeout=60)
    return owner.retrieve_model(name, "1.0")


async def test_a_worker_whom_the_grid_no_longer_knows_becomes_another(
    url: str, owner: ModelCentricFLClient
) -> None:
    await owner.host_federated_training_async(
        make_module(), {"training_plan": make_plan()}, {**CLIENT, "name": "forgotten"}, {"max_diffs": 1}
    )
    async with Syft(url, verbose=True) as syft:
        job = syft.new_job("forgotten", "1.0")
        job._joining.worker_id = "a worker of another grid"
        await job.start()
        assert job.worker_id != "a worker of another grid"


async def test_a_plan_over_the_workers_limits_does_not_run(url: str, owner: ModelCentricFLClient) -> None:
    await owner.host_federated_training_async(
        make_module(), {"training_plan": make_plan()}, {**CLIENT, "name": "bounded"}, {"max_diffs": 1}
    )
    async with Syft(url, verbose=True, limits=Limits(max_bytes=100)) as syft:
        job = syft.new_job("bounded", "1.0")
        await job.start()
        with pytest.raises(PlanLimitError, match="100 are allowed"):
            await job.train("training_plan", data=IMAGES, target=LABELS).wait()


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_a_worker_trains_a_cycle_and_the_checkpoint_is_the_trained_model(
    url: str, owner: ModelCentricFLClient, scheme: str
) -> None:
    name = f"one-{scheme}"
    host(owner, name)
    worker_url = url.replace("http", scheme)
    result = participate(worker_url, name, "1.0", IMAGES, LABELS, verbose=True, epochs=2)
    assert result.cycles == 1
    assert len(result.losses) == 1
    trained = wait_for_checkpoint(owner, name, 2)
    params, lr = model_parameters(make_module()), torch.tensor([0.1])
    for _ in range(2):
        for x, y in list(zip(IMAGES.split(8), LABELS.split(8), strict=True))[:4]:
            params = make_plan()(x, y, lr, *params)[2:]
    for ours, grids in zip(params, trained.params, strict=True):
        torch.testing.assert_close(ours, grids, rtol=0, atol=1e-6)


def test_workers_train_cycle_after_cycle_until_the_model_is_finished(
    url: str, owner: ModelCentricFLClient
) -> None:
    host(owner, "many", max_diffs=2, min_diffs=2, num_cycles=3)

    async def both() -> int:
        halves = [
            participate_async(u, "many", "1.0", x, y, verbose=True, cycles=None, wait=20.0, epochs=4)
            for u, x, y in ((url, IMAGES[:32], LABELS[:32]), (ws, IMAGES[32:], LABELS[32:]))
        ]
        return sum(result.cycles for result in await asyncio.gather(*halves))

    ws = url.replace("http", "ws")
    assert asyncio.run(both()) == 6  # two reports to each of three cycles, whoever was faster
    wait_for_checkpoint(owner, "many", 4)
    (model,) = owner.status("many").models
    assert model.phase == "finished"
    assert [c.number for c in model.checkpoints] == [4, 3, 2, 1]
    module = make_module()
    before = nn.functional.cross_entropy(module(IMAGES), LABELS)
    owner.retrieve_model("many", "1.0").load_into(module)
    assert nn.functional.cross_entropy(module(IMAGES), LABELS) < before
    first = owner.retrieve_model("many", "1.0", 1)
    assert all(torch.equal(a, b) for a, b in zip(first.params, model_parameters(make_module()), strict=True))


def test_a_finished_model_rejects_for_good(url: str, owner: ModelCentricFLClient) -> None:
    host(owner, "finished", num_cycles=1)
    assert (
        participate(url, "finished", "1.0", IMAGES, LABELS, verbose=True, cycles=None, wait=10.0).cycles == 1
    )
    with pytest.raises(CycleRejectedError) as error:
        participate(url, "finished", "1.0", IMAGES, LABELS, verbose=True, wait=True)
    assert error.value.timeout is None


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_a_worker_trains_in_as_many_cycles_as_it_wants_without_being_told_to_wait(
    url: str, owner: ModelCentricFLClient, scheme: str
) -> None:
    host(owner, f"three {scheme}")
    result = participate(url.replace("http", scheme), f"three {scheme}", "1.0", IMAGES, LABELS, cycles=3)
    assert result.cycles == 3
    wait_for_checkpoint(owner, f"three {scheme}", 4)


def test_the_grids_refusals_arrive_with_its_words(url: str, owner: ModelCentricFLClient) -> None:
    host(owner, "taken")
    with pytest.raises(GridResponseError) as taken:
        host(owner, "taken")
    assert taken.value.status == 409
    with pytest.raises(GridResponseError) as missing:
        owner.retrieve_model("nothing", "1.0")
    assert missing.value.status == 404
    for scheme in ("http", "ws"):
        with pytest.raises(GridResponseError, match="nothing"):
            participate(url.replace("http", scheme), "nothing", "1.0", IMAGES, LABELS, verbose=True)


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_second_report_that_is_another_one_is_refused(url: str, scheme: str) -> None:
    name = f"twice-{scheme}"
    async with ModelCentricFLClient(url) as owner, Syft(url.replace("http", scheme), verbose=True) as syft:
        await asyncio.to_thread(host, owner, name, max_diffs=2, min_diffs=2)
        owner.close()
        job = syft.new_job(name, "1.0")
        await job.start()
        diff = job.model.diff(job.model).serialize()
        await job.report(diff)
        await job.report(diff)  # the answer to the first may have been lost
        other = SyftModel([param + 1 for param in job.model.params])
        with pytest.raises(GridResponseError, match="has reported in this cycle already"):
            await job.report(job.model.diff(other).serialize())


@pytest.mark.parametrize("name", ["nothing here", "asked"])
async def test_a_grid_of_fedplan_is_not_taken_for_a_pygrid_node(
    url: str, owner: ModelCentricFLClient, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It answers 404 too, for a model that it does not have, and no WebSocket is opened to find more out."""
    monkeypatch.setattr(WebSocketTransport, "send", None)
    grid = GridApi.connect(GridUrl.parse(url), timeout=10, retry=Retry())
    if name == "asked":
        await owner.host_federated_training_async(
            make_module(), {"training_plan": make_plan()}, {**CLIENT, "name": name}, {"max_diffs": 1}
        )
    assert not await grid.is_pygrid(name)
    await grid.aclose()


async def test_a_grid_in_this_process_is_trained_with_too(tmp_path: pathlib.Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, poll_seconds=0.1))
    async with app.router.lifespan_context(app), ModelCentricFLClient("http://grid", app=app) as owner:
        await owner.host_federated_training_async(
            make_module(), {"training_plan": make_plan()}, CLIENT, {"min_diffs": 1, "max_diffs": 1}
        )
        result = await participate_async("http://grid", "digits", "1.0", IMAGES, LABELS, app=app)
        assert result.cycles == 1


@pytest.mark.parametrize("min_speed", [0.001])
def test_a_speed_test_is_made_for_a_model_that_wants_one(
    url: str, owner: ModelCentricFLClient, min_speed: float
) -> None:
    host(owner, "speedy", minimum_upload_speed=min_speed, minimum_download_speed=min_speed)
    assert participate(url, "speedy", "1.0", IMAGES, LABELS, verbose=True).cycles == 1


@pytest.mark.skipif(not FIXTURES.exists(), reason="the Plans made by PySyft are not on this machine")
def test_a_plan_made_by_pysyft_is_hosted_and_trained_with_explicit_specs(
    url: str, owner: ModelCentricFLClient
) -> None:
    folder = FIXTURES / "linreg_sgd"
    plan = Plan.parse((folder / "list.plan.pb").read_bytes())
    x, y, lr, _, *model = SyftModel.parse((folder / "input.state.pb").read_bytes()).params
    state = State.parse(SyftModel(model).serialize())
    spec, out = PlanInputSpec, PlanOutputSpec
    config = {"name": "linreg", "version": "1.0", "lr": lr.item(), "batch_size": len(x)}
    owner.host_federated_training(state, {"linreg": plan}, config, {"min_diffs": 1, "max_diffs": 1})
    result = participate(
        url,
        "linreg",
        "1.0",
        x,
        y,
        verbose=True,
        plan="linreg",
        inputs=[
            spec(spec.TYPE_DATA),
            spec(spec.TYPE_TARGET),
            spec(spec.TYPE_CLIENT_CONFIG_PARAM, "lr"),
            spec(spec.TYPE_BATCH_SIZE),
            spec(spec.TYPE_MODEL_PARAM, index=0),
            spec(spec.TYPE_MODEL_PARAM, index=1),
        ],
        outputs=[
            out(out.TYPE_LOSS),
            out(out.TYPE_MODEL_PARAM, index=0),
            out(out.TYPE_MODEL_PARAM, index=1),
        ],
    )
    loss, *trained = SyftModel.parse((folder / "expected_output.state.pb").read_bytes()).params
    assert result.losses == pytest.approx([loss.item()], rel=1e-5)
    checkpoint = wait_for_checkpoint(owner, "linreg", 2)
    for ours, expected in zip(checkpoint.params, trained, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("format", ["float16", "int8", "topk"])
def test_reports_in_fewer_bytes_train_a_model_too(url: str, owner: ModelCentricFLClient, format: str) -> None:
    host(owner, f"in {format}", num_cycles=3, report_formats=[format])
    result = participate(url, f"in {format}", "1.0", IMAGES, LABELS, cycles=3, wait=True, verbose=True)
    assert (result.cycles, result.refused) == (3, 0)
    trained = make_module()
    wait_for_checkpoint(owner, f"in {format}", 4).load_into(trained)
    before, after = (nn.functional.cross_entropy(model(IMAGES), LABELS) for model in (make_module(), trained))
    assert after < before


def test_a_plan_is_downloaded_once_and_not_in_every_cycle(
    url: str, owner: ModelCentricFLClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    host(owner, "kept", num_cycles=3)
    answers: list[tuple[str, int]] = []
    tags: set[str | None] = set()
    send = HttpTransport.send

    async def noted(self: HttpTransport, request: GridRequest) -> GridAnswer:
        answer = await send(self, request)
        answers.append((request.endpoint, -1 if answer.content is None else len(answer.content)))
        tags.add(answer.tag)
        return answer

    monkeypatch.setattr(HttpTransport, "send", noted)
    participate(url, "kept", "1.0", IMAGES, LABELS, cycles=3, wait=True, verbose=True)
    sizes = [size for endpoint, size in answers if endpoint == "model-centric/get-plan"]
    assert sizes[0] > 0
    assert sizes[1:] == [-1, -1]
    assert any(tag is not None and "-zstd" in tag for tag in tags)
