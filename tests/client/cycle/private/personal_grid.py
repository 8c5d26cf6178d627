"""A grid with the model of `personal.py`, and a worker for it."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pybase64
import torch
from torch import Tensor

from fedplan.client import ModelCentricFLClient, participate_async
from fedplan.grid import Settings, create_app
from fedplan.plan import Plan, to_torch
from fedplan.wire import State
from tests.client.cycle.private.personal import CONFIG, PRIVATE, Personal, data_of
from tests.client.small_grid import serve


@dataclasses.dataclass
class Gate:
    """An ASGI app in front of a grid, which passes requests on to it.

    Attributes:
        app: the grid.
        before_report: called when a report comes; a response that it returns is sent instead of the grid's.
        after_report: called when the grid has taken a report, before the worker hears of it.
        url: where it is served.
    """

    app: Any
    before_report: Callable[[], Any] = lambda: None
    after_report: Callable[[], Any] = lambda: None
    url: str = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not scope.get("path", "").endswith("/report"):
            await self.app(scope, receive, send)
            return
        answer = self.before_report()
        if answer is not None:
            await answer(scope, receive, send)
            return

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                self.after_report()
            await send(message)

        await self.app(scope, receive, sending)


@contextlib.contextmanager
def grid_behind_a_gate(folder: pathlib.Path) -> Iterator[Gate]:
    gate = Gate(create_app(Settings(data_dir=folder, poll_seconds=0.05, retry_seconds=0.5)))
    with serve(gate) as gate.url:
        yield gate


async def host(url: str, plan: Plan, diffs: int = 1, variants: Any = (), **server_config: Any) -> None:
    async with ModelCentricFLClient(url) as owner:
        await owner.host_federated_training_async(
            Personal(),
            {"training_plan": plan},
            CONFIG,
            {"min_diffs": diffs, "max_diffs": diffs, **server_config},
            variants=variants,
        )


async def checkpoint(url: str, number: int) -> list[Tensor]:
    async with ModelCentricFLClient(url) as owner:
        await owner.wait_async("personal", "1.0", checkpoint=number, timeout=60)
        return (await owner.retrieve_model_async("personal", "1.0", number)).params


def train(url: str, worker: int = 0, **options: Any) -> Any:
    options = {"verbose": True, "wait": 30.0, **options}
    return participate_async(url, "personal", "1.0", *data_of(worker), **options)


def only_file(folder: pathlib.Path) -> pathlib.Path:
    (path,) = folder.glob("*.json")
    return path


def stored(folder: pathlib.Path) -> dict[int, Tensor]:
    """What a folder has, read from the file as it is documented."""
    content = json.loads(only_file(folder).read_text())
    state = State.parse(pybase64.b64decode(content["stateBase64"]))
    return dict(zip(state.places or (), map(to_torch, state.tensors), strict=True))


def assert_kept(folder: pathlib.Path, model: list[Tensor]) -> None:
    kept = stored(folder)
    assert tuple(kept) == PRIVATE
    for place, tensor in kept.items():
        torch.testing.assert_close(tensor, model[place], rtol=0, atol=1e-5)
