"""deploy/nginx.conf, run by a real nginx: two grids on one PostgreSQL, at a base path."""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import torch
from torch.nn import functional as F

import fedplan
from fedplan.grid import Settings
from tests.grid.conftest import serving
from tests.grid.postgresql import cluster, needs_postgresql

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
TOKEN = "an owner token of the tests"

pytestmark = [
    needs_postgresql,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)"),
]


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextlib.contextmanager
def nginx(folder, grids):
    """nginx with the project's configuration, but for addresses and folders; yields its address."""
    port = _free_port()
    text = CONFIGURATION.read_text()
    for old, new in {
        "listen 8080": f"listen 127.0.0.1:{port}",
        "server 127.0.0.1:5000": f"server {grids[0]}",
        "server 127.0.0.1:5001": f"server {grids[1]}",
        "access_log access.log": f"access_log {folder}/access.log",
        "http {": "http {\n"
        + "".join(
            f"{name}_temp_path {folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
        "worker_connections 20000": "worker_connections 500",
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    main = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;"
    with subprocess.Popen([NGINX, "-c", str(folder / "nginx.conf"), "-g", main]) as running:
        try:
            for _ in range(100):
                with contextlib.suppress(httpx.TransportError):
                    httpx.get(f"http://127.0.0.1:{port}/")
                    break
                assert running.poll() is None, (folder / "error.log").read_text()
                time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            running.send_signal(signal.SIGTERM)


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
    log = next(tmp_path_factory.getbasetemp().glob("deployed*/nginx/access.log")).read_text()
    assert "/grid/model-centric/" in log
    assert "request_key" not in log
