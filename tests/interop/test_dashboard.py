"""The grid's dashboard in headless Chromium, used as a person would while a model is trained."""

import asyncio
import json
import os
import shutil

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fedplan
from fedplan.errors import CycleRejectedError
from fedplan.grid import Settings
from tests.grid.conftest import serving

from .workers import run_node

TOKEN = "an owner token that nobody guesses"
NAME, VERSION = "digits <b>", "1.0"

PICTURES = os.environ.get("FEDPLAN_PICTURES")
"""A folder that keeps the pictures of the pages, to be looked at."""


@pytest.fixture
def address(tmp_path):
    settings = Settings(data_dir=tmp_path, owner_token=TOKEN, poll_seconds=0.1, retry_seconds=0.3)
    with serving(settings) as address:
        yield address


def host(address):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    example = (torch.zeros(8, 64), torch.zeros(8, dtype=torch.int64))
    plan = fedplan.training_plan(
        model, F.cross_entropy, example=example, metrics={"accuracy": fedplan.accuracy}
    )
    with fedplan.ModelCentricFLClient(f"http://{address}", token=TOKEN) as owner:
        owner.host_federated_training(
            model,
            {"training_plan": plan},
            {"name": NAME, "version": VERSION, "batch_size": 8, "lr": 0.1},
            {"min_diffs": 2, "max_diffs": 2, "num_cycles": 12, "cycle_length": 3600},
        )


def train(address, reports):
    """Workers, one after the other, until so many have reported."""
    x = torch.randn(300, 64, generator=torch.Generator().manual_seed(1))
    y = x[:, :10].argmax(1)
    while reports:
        try:
            fedplan.participate(f"ws://{address}", NAME, VERSION, x, y)
            reports -= 1
        except CycleRejectedError:
            continue


async def test_a_person_signs_in_watches_a_training_controls_it_and_clicks_through_all_pages(
    address, tmp_path
):
    await asyncio.to_thread(host, address)
    if PICTURES:
        shutil.rmtree(PICTURES, ignore_errors=True)
        os.makedirs(PICTURES)
    watching = tmp_path / "watching"
    task = {
        "grid": f"http://{address}",
        "token": TOKEN,
        "name": NAME,
        "version": VERSION,
        "watching": str(watching),
        "pictures": PICTURES,
    }

    driving = asyncio.create_task(run_node("drive_dashboard.mjs", json.dumps(task), seconds=240))
    while not watching.exists() and not driving.done():
        await asyncio.sleep(0.1)
    await asyncio.to_thread(train, address, 6)
    lines = [json.loads(line) for line in (await driving).splitlines()]

    assert [line for line in lines if line["when"] == "error"] == []
    told = {line["when"]: line for line in lines}
    assert told["asked"] == {"when": "asked", "url": f"http://{address}/login", "focused": "token"}
    assert "the token is not known to this grid" in told["refused"]["text"]
    assert NAME in told["models"]["text"]
    assert told["changed"]["same"]
    assert told["changed"]["plots"] == ["loss", "accuracy"]
    assert "Cycle 4 of 12 waits for 2 of 2 reports" in told["changed"]["text"]
    assert "its owner has paused it" in told["paused"]["text"]
    assert "of 17" in told["extended"]["text"]
    assert told["downloaded"]["file"] == "digits-b--1.0-2.pb"
    assert "a copy of 2" in told["rolled back"]["text"]
    assert "Memory of a run" in told["plan"]["text"]
    for kind in ("hosted", "joined", "reported", "averaged", "paused", "rolled back"):
        assert kind in told["events"]["text"]
    assert told["made"]["token"].startswith("fedplan_")
    assert told["looks"]["url"].endswith("/model?name=digits%20%3Cb%3E&version=1.0")
    assert told["looks"]["controls"] == 0
    assert "Your session has ended" in told["led out"]["text"]
    assert "The model is deleted." in told["deleted"]["text"]
