"""deploy/nginx.conf, run by a real nginx: two grids on one PostgreSQL, at a base path."""

import asyncio
import time

import httpx
import pytest
import torch
from torch.nn import functional as F

import fedplan
from fedplan.grid import Settings
from tests.deploy.running_nginx import needs_nginx, nginx
from tests.grid.conftest import serving
from tests.grid.postgresql import cluster, needs_postgresql

TOKEN = "an owner token of the tests"

pytestmark = [needs_postgresql, needs_nginx]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "nginx").mkdir(mode=0o777)
    (folder / "blobs").mkdir()
    with cluster() as database:
        common = {
            "database_url": database.url,
            "blob_url": (folder / "blobs").as_uri(),
            "owner_token": TOKEN,
            "secret_key": "a secret of more than thirty-two bytes",
            "trusted_proxies": ["127.0.0.1"],
            "poll_seconds": 0.05,
        }
        settings = [Settings(data_dir=folder / name, **common) for name in ("one", "two")]
        with (
            serving(settings[0]) as one,
            serving(settings[1]) as two,
            nginx(folder / "nginx", [one, two]) as address,
        ):
            yield address


@pytest.fixture
def owner(proxy):
    with fedplan.ModelCentricFLClient(f"http://{proxy}/grid/", token=TOKEN) as owner:
        yield owner


def hosted(owner, name):
    """A model that is hosted through the proxy."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    example = torch.zeros(4, 4), torch.zeros(4, dtype=torch.int64)
    owner.host_federated_training(
        model,
        {"training_plan": fedplan.training_plan(model, F.cross_entropy, example=example)},
        {"name": name, "version": "1", "batch_size": 4, "lr": 0.5},
        {"min_diffs": 2, "max_diffs": 2, "num_cycles": 1},
    )
    return model


@pytest.mark.some(3)
@pytest.mark.parametrize("base", ["ws://{}/grid/", "ws://{}/grid", "http://{}/grid/"])
def test_workers_train_through_it(proxy, owner, base):
    name = base.replace("/", "-").format("x")
    model = hosted(owner, name)
    x, y = torch.randn(8, 4), torch.tensor([0, 1] * 4)
    for _ in range(2):
        fedplan.participate(base.format(proxy), name, "1", x, y, cycles=1)
    owner.wait(name, "1", checkpoint=2, timeout=30)
    trained = owner.retrieve_model(name, "1").params
    for part in (slice(0, 4), slice(4, 8)):  # both workers do the same, so the average is what one does
        model.zero_grad()
        F.cross_entropy(model(x[part]), y[part]).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(parameter.grad, alpha=0.5)
    for got, parameter in zip(trained, model.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.detach())


def test_both_grids_answer(proxy):
    with httpx.Client(headers={"authorization": f"Bearer {TOKEN}"}) as http:
        for _ in range(4):
            assert http.get(f"http://{proxy}/grid/healthz").status_code == 200


async def test_events_are_told_as_they_happen(proxy, owner):
    seen = asyncio.Queue()

    async def follow():
        async with (
            httpx.AsyncClient(timeout=30) as http,
            http.stream(
                "GET",
                f"http://{proxy}/grid/model-centric/events",
                headers={"accept": "text/event-stream", "authorization": f"Bearer {TOKEN}"},
            ) as answer,
        ):
            async for line in answer.aiter_lines():
                await seen.put(line)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.5)
    await asyncio.to_thread(hosted, owner, "followed")
    async with asyncio.timeout(20):
        while '"followed"' not in await seen.get():
            pass
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def test_events_name_the_client_and_not_the_proxy(proxy, owner):
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.9")) as http:
        refused = http.get(
            f"http://{proxy}/grid/model-centric/status", headers={"x-forwarded-for": "8.8.8.8"}
        )
        assert refused.status_code in (401, 403)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        addresses = {event.address for event in owner.events()}
        if "127.0.0.9" in addresses:
            break
        time.sleep(0.2)
    assert "127.0.0.9" in addresses
    assert "8.8.8.8" not in addresses


def test_the_log_holds_no_keys(proxy, tmp_path_factory):
    given = {"worker_id": "1", "request_key": "a key", "model_id": "1"}
    httpx.get(f"http://{proxy}/grid/model-centric/get-model", params=given)
    log = next(tmp_path_factory.getbasetemp().glob("deployed*/nginx/access.log")).read_text()
    assert "/grid/model-centric/" in log
    assert "request_key" not in log
