from collections.abc import Iterator
from typing import Any

import pytest

from tests.client.small_grid import SmallGrid, serve
from tests.client.training_cases import BATCH, make_model, make_plan


class Stage:
    """An ASGI app that passes everything on to the present test's grid: one server for all tests."""

    def __init__(self) -> None:
        self.grid = SmallGrid()
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.grid.app(scope, receive, send)


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    stage = Stage()
    with serve(stage) as stage.url:
        yield stage


@pytest.fixture
def grid(stage: Stage) -> SmallGrid:
    """A grid with a model to train, on a real socket."""
    stage.grid = SmallGrid(make_model(), {"training_plan": make_plan()}, batch_size=BATCH, lr=0.05)
    stage.grid.url = stage.url
    return stage.grid
