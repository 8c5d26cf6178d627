"""A whole life at a PyGrid node: hosted over a WebSocket, trained by workers, retrieved."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from fedplan.client import ModelCentricFLClient, PlanTrainer, Syft, SyftModel, participate, patience
from fedplan.errors import ConfigError, GridResponseError, PlanError
from fedplan.plan import Plan, StepContext, accuracy, model_parameters, training_plan
from fedplan.wire import schema
from tests.client.small_grid import serve
from tests.client.small_pygrid import SmallPyGrid
from tests.client.training_cases import BATCH, make_data, make_model, make_module, make_plan, make_probe

CLIENT = {"name": "m", "version": "1.0", "batch_size": BATCH, "lr": 0.05, "max_updates": 3}
SERVER = {"min_diffs": 2, "max_diffs": 2, "num_cycles": 2, "cycle_length": 3600}
IMAGES, LABELS = make_data()


@pytest.fixture
def node() -> SmallPyGrid:
    return SmallPyGrid()


@pytest.fixture
def url(node: SmallPyGrid) -> Iterator[str]:
    with serve(node.app) as url:
        yield url


@pytest.fixture
def owner(url: str) -> Iterator[ModelCentricFLClient]:
    with ModelCentricFLClient(url) as owner:
        yield owner


HOSTING: dict[str, Any] = {
    "model": make_module(),
    "client_plans": {"training_plan": make_plan()},
    "client_config": CLIENT,
    "server_config": SERVER,
}


def host(owner: ModelCentricFLClient, **changes: Any) -> None:
    owner.host_federated_training(**{**HOSTING, **changes})


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_a_model_is_hosted_over_a_websocket(node: SmallPyGrid, url: str, scheme: str) -> None:
    with ModelCentricFLClient(url.replace("http", scheme)) as owner:
        host(owner)
        assert owner.retrieve_model("m", "1.0").serialize() == make_model().serialize()
        assert owner.retrieve_model("m", "1.0", 1).serialize() == make_model().serialize()
    assert node.requests == ["status", "ws socket-ping", "ws host-training", *["retrieve-model"] * 2]
    (sent,) = node.hosted
    assert sent["averaging_plan"] == ""
    assert (sent["client_config"], sent["server_config"], sent["protocols"]) == (CLIENT, SERVER, {})
    assert bytes.fromhex(sent["model"]) == make_model().serialize()


def test_the_plan_holds_what_workers_and_browsers_need(
    node: SmallPyGrid, owner: ModelCentricFLClient
) -> None:
    host(owner)
    data = bytes.fromhex(node.hosted[0]["plans"]["training_plan"])
    plan = Plan.parse(data)
    assert plan.input_specs == make_plan().input_specs
    assert plan.output_specs == make_plan().output_specs
    assert plan.variants.names() == ["tfjs"]  # PySyft's torch 1.4 reads no archive of fedplan


async def test_workers_train_it_and_do_not_sleep_as_long_as_its_cycles_may_last(
    node: SmallPyGrid, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_GROWING_SECONDS", (0.05, 0.1, 0.2))
    async with ModelCentricFLClient(url) as owner:
        await owner.host_federated_training_async(**HOSTING)
        async with asyncio.timeout(60):
            results = await asyncio.gather(
                *(
                    asyncio.to_thread(participate, at, "m", "1.0", *data, cycles=None, wait=True)
                    for at, data in zip((url, url.replace("http", "ws")), halves(), strict=True)
                )
            )
        assert [result.cycles for result in results] == [2, 2]
        trained = await owner.retrieve_model_async("m", "1.0")
    for ours, theirs in zip(trained.params, (await by_hand(cycles=2)).params, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def halves() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(IMAGES.split(13), LABELS.split(13), strict=True))


async def by_hand(cycles: int) -> SyftModel:
    """The model after so many cycles of two workers."""
    model = make_model()
    for _ in range(cycles):
        trained = []
        for images, labels in halves():
            trainer = PlanTrainer(
                plan=make_plan(),
                model=model,
                data=images,
                target=labels,
                batch_size=BATCH,
                steps_per_epoch=3,
                client_config=CLIENT,
            )
            await trainer.start()
            trained.append(trainer.current_model.params)
        model = SyftModel([(one + other) / 2 for one, other in zip(*trained, strict=True)])
    return model


def test_the_moment_between_two_cycles_is_not_taken_for_the_end(
    node: SmallPyGrid, owner: ModelCentricFLClient, url: str
) -> None:
    host(owner, server_config={**SERVER, "min_diffs": 1, "max_diffs": 1})

    def report(batch: object) -> None:
        node.bare_rejections = 1

    result = participate(url, "m", "1.0", IMAGES, LABELS, cycles=2, wait=True, events={"batch_end": report})
    assert result.cycles == 2


async def test_a_protocol_that_the_node_cannot_send_does_not_keep_a_worker_out(
    node: SmallPyGrid, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with ModelCentricFLClient(url) as owner:
        await owner.host_federated_training_async(**HOSTING)
    node.processes["m", "1.0"].protocols = {"handshake": b""}
    async with Syft(url) as syft:
        job = syft.new_job("m", "1.0")
        await job.start()
        assert list(job.plans) == ["training_plan"]
        assert job.protocols == {}
    assert "a Protocol of the cycle cannot be had, and is left out" in caplog.text
    assert "'list' object has no attribute" in caplog.text


def test_what_the_node_says_is_told(node: SmallPyGrid, owner: ModelCentricFLClient) -> None:
    host(owner)
    with pytest.raises(
        GridResponseError, match=r"refused model-centric/host-training: FL Process already exists"
    ):
        host(owner)
    with pytest.raises(GridResponseError, match="Model ID not found!"):
        owner.retrieve_model("m", "1.0", 7)


def test_a_server_that_is_no_grid_is_not_taken_for_one() -> None:
    refused = pytest.raises(GridResponseError, match="refused model-centric/host-training: 404")
    with serve(nothing) as elsewhere, ModelCentricFLClient(elsewhere) as owner, refused:
        host(owner)


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """A web server without pages and WebSockets."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"nothing here"})


# what is said before anything is hosted


def by_cycle(output: torch.Tensor, target: torch.Tensor, step: StepContext) -> torch.Tensor:
    return nn.functional.cross_entropy(output, target) * step.cycle


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"server_config": {"max_diffs": 2, "num_cycles": 2}}, ConfigError, "PyGrid node needs cycle_length"),
        ({"server_config": {"cycle_length": 9}}, ConfigError, "needs num_cycles"),
        ({"server_config": {**SERVER, "strategy": "fedadam"}}, ConfigError, "knows nothing of strategy"),
        ({"server_config": {**SERVER, "public": True, "metrics": ["a"]}}, ConfigError, "public, metrics"),
        (
            {"server_config": {**SERVER, "authentication": {"secret": "s", "aud": "a"}}},
            ConfigError,
            "knows nothing of authentication.aud",
        ),
        (
            {"client_config": {**CLIENT, "lr": {"schedule": "cosine", "start": 0.1, "cycles": 2}}},
            ConfigError,
            "'lr' is a schedule",
        ),
        ({"server_averaging_plan": make_probe()}, ConfigError, "leave server_averaging_plan out"),
        ({"client_protocols": {"p": schema.Protocol(name="p")}}, ConfigError, "cannot send them to workers"),
        ({"variants": ["torchscript", "tfjs"]}, PlanError, "leave torchscript out of variants"),
        ({"variants": []}, PlanError, "takes no Plan without its tfjs variant.*it was left out"),
        (
            {"client_plans": {"training_plan": training_plan(
                make_module(), by_cycle, example=(IMAGES[:4], LABELS[:4])
            )}},
            PlanError,
            "reads the number of the cycle",
        ),
    ],
)  # fmt: skip
def test_what_a_pygrid_node_cannot_do_is_said_before_anything_is_hosted(
    node: SmallPyGrid,
    owner: ModelCentricFLClient,
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        host(owner, **changes)
    assert node.requests == ["status", "ws socket-ping"]


def test_an_evaluation_plan_is_refused(node: SmallPyGrid, owner: ModelCentricFLClient) -> None:
    from fedplan.plan import evaluation_plan

    measure = evaluation_plan(
        make_module(), nn.functional.cross_entropy, example=(IMAGES, LABELS), metrics={"accuracy": accuracy}
    )
    with pytest.raises(PlanError, match="host without the Plan 'evaluation_plan'"):
        host(owner, client_plans={"training_plan": make_plan(), "evaluation_plan": measure})
    assert node.hosted == []


def test_keys_that_the_node_does_not_act_on_are_named(
    owner: ModelCentricFLClient, caplog: pytest.LogCaptureFixture
) -> None:
    host(owner, server_config={**SERVER, "min_workers": 2, "max_workers": 3})
    assert "keeps min_workers, max_workers, and does not act on it" in caplog.text
    assert "hosted without torchscript, which PyGrid's torch 1.4 cannot load" in caplog.text


def test_the_model_is_hosted_as_it_was_made() -> None:
    assert make_model().serialize() == SyftModel(model_parameters(make_module())).serialize()
