from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fedplan.client import ModelCentricFLClient
from fedplan.grid import Settings, create_app
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


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real grid, on a socket."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("grid"), poll_seconds=0.05, retry_seconds=0.5)
    with serve(create_app(settings)) as url:
        yield url


@pytest.fixture
async def owner(url: str) -> AsyncIterator[ModelCentricFLClient]:
    """Who hosts models there, with blocking calls or in the test's loop."""
    with ModelCentricFLClient(url) as owner:
        async with owner:
            yield owner
