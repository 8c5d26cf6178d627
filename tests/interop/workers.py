"""Workers that are programs: syft.js 0.1.4 in Node and in Chromium."""

import asyncio
import base64
import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from fedplan.plan import to_torch
from fedplan.wire import State

from .tensors import to_json
from .trainings import Batch, Training

FOLDER = Path(__file__).parent

PROGRAMS = {"Node": "worker.mjs", "Chromium": "page_worker.mjs"}
"""By where they run."""

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")

_SECONDS = 200.0


@dataclasses.dataclass
class Outcome:
    """What a worker said.

    Attributes:
        events: all of it, in order.
    """

    events: list[dict[str, Any]]

    def __post_init__(self) -> None:
        assert self.events[-1:] == [{"event": "done"}], f"the worker did not come to its end: {self.events}"

    @property
    def names(self) -> list[str]:
        return [event["event"] for event in self.events]

    @property
    def errors(self) -> list[str]:
        return [event["message"] for event in self.events if event["event"] == "error"]

    @property
    def losses(self) -> list[float]:
        return [event["loss"] for event in self.events if event["event"] == "batch"]

    @property
    def diffs(self) -> list[list[torch.Tensor]]:
        """What it reported, cycle by cycle."""
        reports = [event["diff"] for event in self.events if event["event"] == "reported"]
        return [[to_torch(t) for t in State.parse(base64.b64decode(diff)).tensors] for diff in reports]


async def take_part(
    runtime: str,
    url: str,
    name: str,
    training: Training,
    cycles: list[list[Batch]],
    token: str | None = None,
    *,
    patience: int = 20,
    core: str | None = None,
) -> Outcome:
    """Runs a worker until it has trained in as many cycles as there are batches for, or gives up.

    Args:
        runtime: a key of PROGRAMS.
        url: the grid.
        name: the model's name; its version is 1.0.
        training: which Plan the model has.
        cycles: the batches of each cycle.
        token: the worker's auth_token.
        patience: how many rejections it waits out.
        core: the package with another version of tfjs-core than 1.7.4.
    """
    task = {
        "url": url,
        "model": name,
        "version": "1.0",
        "token": token,
        "plan": "training_plan",
        "inputs": training.inputs,
        "cycles": [
            [{"data": to_json(x.numpy()), "target": to_json(y.numpy())} for x, y in batches]
            for batches in cycles
        ],
        "patience": patience,
    }
    lines = await run_node(PROGRAMS[runtime], json.dumps(task), core)
    return Outcome([json.loads(line) for line in lines.splitlines()])


async def run_node(program: str, text: str, core: str | None = None, seconds: float = _SECONDS) -> str:
    """Runs a program of this folder on a text; its words on standard error are shown when it fails.

    Args:
        program: its file.
        text: what it reads.
        core: the package with another version of tfjs-core.
        seconds: how long it may take.
    """
    chromium = next(filter(None, map(shutil.which, _CHROMIUM)), "/no/chromium/on/PATH")
    node = await asyncio.create_subprocess_exec(
        *("node", str(FOLDER / program)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"CHROMIUM": chromium} | ({"TFJS_CORE": core} if core else {}),
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await node.communicate(text.encode())
    finally:
        if node.returncode is None:
            node.kill()
            await node.wait()
    assert node.returncode == 0, errors.decode()
    print(errors.decode())  # pytest shows it when the test fails
    return output.decode()
