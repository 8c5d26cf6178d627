"""The page of examples/browser, used as a person would."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .workers import run_node

EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"


@pytest.fixture
def page(server):
    """The page's address."""
    command = [sys.executable, EXAMPLE / "serve.py", "--url", f"http://{server}", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        yield serving.stdout.readline().strip()
        serving.terminate()


async def test_digits_are_learnt_and_the_training_can_be_stopped_and_resumed(page, server, peer, tmp_path):
    task = {"page": page, "url": f"ws://{server}", "picture": str(tmp_path / "page.png")}

    lines = (await run_node("drive_example.mjs", json.dumps(task))).splitlines()

    started, stopped, still_stopped, resumed = map(json.loads, lines)
    assert started["cycles"] >= 1
    assert started["button"] == "Stop"
    assert stopped["status"] == "Stopped."
    assert stopped["button"] == "Resume"
    assert still_stopped["batches"] == stopped["batches"]
    assert resumed["cycles"] >= 5
    assert resumed["batches"] > stopped["batches"]
    assert resumed["accuracy"] > 80
    model = await peer.status("digits")
    assert model["checkpoints"][0]["number"] > resumed["cycles"]
