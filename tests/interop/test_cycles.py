"""Whole cycles of syft.js 0.1.4, as it was published, in Node and in Chromium."""

import asyncio
import time

import httpx
import jwt
import pytest
import torch

from fedplan.grid import Settings
from tests.grid.conftest import serving
from tests.grid.models import base64_of
from tests.grid.models import diff as diff_of
from tests.grid.peers import Peer
from tests.long import LONG

from .workers import PROGRAMS, take_part

SECRET = "the secret of the model's owner, long enough"

runtimes = pytest.mark.parametrize("runtime", PROGRAMS)
small = pytest.mark.parametrize("training", ["PySyft's MLP"], indirect=True)
schemes = pytest.mark.parametrize("scheme", ["ws", "http"])
WAYS = [(runtime, scheme) for runtime in PROGRAMS for scheme in ("ws", "http")]
if not LONG:
    WAYS.remove(("Chromium", "http"))  # each start of Chromium takes five seconds of two cores
ways = pytest.mark.parametrize(("runtime", "scheme"), WAYS)


def token(**claims):
    return jwt.encode({"exp": time.time() + 60} | claims, SECRET, "HS256")


async def params_of(peer, name, number):
    """The parameters of a checkpoint, once it is there."""
    await peer.until_checkpoint(number, name)
    return [torch.tensor(array) for array in await peer.checkpoint(name, number)]


def assert_near(ours, theirs, tolerance):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.some(2)
@ways
@pytest.mark.parametrize("authenticated", [False, True], ids=["open", "with a token"])
async def test_a_worker_trains_in_cycles_as_python_does(
    server, peer, host, training, runtime, scheme, authenticated
):
    checked = {"authentication": {"secret": SECRET}} if authenticated else {}
    name = await host(max_diffs=1, num_cycles=2, **checked)
    cycles = [training.batches(seed, 3) for seed in (1, 2)]
    url = f"{scheme}://{server}" + ("/" if authenticated else "")  # which makes //model-centric/… of it

    outcome = await take_part(runtime, url, name, training, cycles, token() if authenticated else None)

    assert outcome.errors == []
    losses, params = [], list(training.params)
    for number, (batches, diff) in enumerate(zip(cycles, outcome.diffs, strict=True), 1):
        more, trained = training.train(params, batches)
        losses += more
        assert_near(diff, [a - b for a, b in zip(params, trained, strict=True)], 1e-4)
        reached = await params_of(peer, name, number + 1)
        assert_near(reached, [a - b for a, b in zip(params, diff, strict=True)], 1e-6)
        params = reached
    assert outcome.losses == pytest.approx(losses, abs=1e-4)


@runtimes
@pytest.mark.parametrize("training", ["a frozen layer"], indirect=True)
async def test_a_frozen_layer_is_in_the_model_and_its_reports_change_nothing_of_it(
    server, peer, host, training, runtime
):
    name = await host(max_diffs=1, num_cycles=2)
    cycles = [training.batches(seed, 3) for seed in (1, 2)]

    outcome = await take_part(runtime, f"ws://{server}", name, training, cycles)

    assert outcome.errors == []
    assert [[bool(tensor.any()) for tensor in diff] for diff in outcome.diffs] == [
        [False] * 2 + [True] * 2
    ] * 2
    params = await params_of(peer, name, 3)
    assert_near(params, training.train(training.params, [*cycles[0], *cycles[1]])[1], 1e-4)
    assert all(torch.equal(a, b) for a, b in zip(params[:2], training.params[:2], strict=True))


@ways
@small
@pytest.mark.parametrize("auth_token", [None, "nonsense"])
async def test_a_worker_without_a_valid_token_is_told_so(server, host, training, runtime, scheme, auth_token):
    name = await host(max_diffs=1, authentication={"secret": SECRET})

    outcome = await take_part(runtime, f"{scheme}://{server}", name, training, [[]], auth_token)

    assert outcome.names == ["error", "done"]
    assert "auth_token" in outcome.errors[0]


def reports(model):
    """The number of the cycle, and how many have reported in it."""
    return (model["cycle"] or {}).get("number"), (model["cycle"] or {}).get("reported")


@ways
@small
async def test_a_worker_is_told_when_to_come_back_and_when_not_to(
    server, peer, host, training, runtime, scheme
):
    name = await host(max_diffs=2, num_cycles=2)
    url, batches = f"{scheme}://{server}", training.batches(1, 1)

    async def another_worker():
        """Reports later, so that the first one asks again in a cycle that it has reported in."""
        for number in (1, 2):
            await peer.until(lambda model, n=number: reports(model) == (n, 1), name)
            worker = await peer.join(name)
            await asyncio.sleep(1.5)
            nothing = base64_of(diff_of(0.0, [tensor.shape for tensor in training.params]))
            assert (await worker.report(diff=nothing)).status_code == 200

    async with asyncio.TaskGroup() as both:
        other = both.create_task(another_worker())
        # once more when there is no cycle left
        outcome = await take_part(runtime, url, name, training, [batches, batches, batches])
        other.cancel()

    assert outcome.errors == []
    assert outcome.names.count("reported") == 2
    *waits, last = [event.get("timeout") for event in outcome.events if event["event"] == "rejected"]
    assert waits
    assert all(isinstance(wait, int) for wait in waits)
    assert last is None


@runtimes
@small
async def test_the_speed_test_lets_a_worker_in(server, host, training, runtime):
    name = await host(max_diffs=1, minimum_upload_speed=1, minimum_download_speed=1)

    outcome = await take_part(runtime, f"ws://{server}", name, training, [training.batches(1, 2)])

    assert outcome.names == ["accepted", "batch", "batch", "reported", "done"]


@ways
@small
async def test_a_report_that_is_refused_is_told(server, host, training, runtime, scheme):
    name = await host(max_diffs=1)
    [(data, target)] = training.batches(1, 1)

    outcome = await take_part(runtime, f"{scheme}://{server}", name, training, [[(data / 0, target)]])

    assert outcome.names == ["accepted", "batch", "error", "done"]
    assert "NaN" in outcome.errors[0]


@schemes
@small
async def test_a_page_of_another_origin_is_kept_out(tmp_path, training, scheme):
    settings = Settings(data_dir=tmp_path, cors_origins=["https://good.example"])
    with serving(settings) as address:
        async with httpx.AsyncClient(base_url=f"http://{address}") as http:
            name = await training.host(Peer(http), max_diffs=1)

        outcome = await take_part("Chromium", f"{scheme}://{address}", name, training, [[]])

    assert outcome.names == ["error", "done"]


@small
async def test_the_speed_test_keeps_a_worker_out(server, host, training):
    name = await host(max_diffs=1, minimum_download_speed=1e9)

    outcome = await take_part("Node", f"ws://{server}", name, training, [[]], patience=0)

    assert outcome.names == ["rejected", "done"]
