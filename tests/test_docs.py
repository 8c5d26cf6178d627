"""What the docs say is true: their tables are held against the code, and their examples run."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import uvicorn

from fedplan.grid import Settings, create_app
from fedplan.wire.config import ServerConfig

ROOT = Path(__file__).parents[1]


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    text = (ROOT / "docs" / page).read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code(page: Path, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    assert found
    return found[1]


def test_the_table_of_settings_is_the_settings() -> None:
    described = [
        [
            f"`FEDPLAN_{name.upper()}`",
            "–" if field.default is None else f"`{field.default}`",
            field.description,
        ]
        for name, field in Settings.model_fields.items()
    ]
    assert rows("grid.md", "Settings") == described


def test_the_table_of_the_server_config_has_every_key_and_no_other() -> None:
    named = [
        name for cells in rows("grid.md", "How a cycle runs") for name in re.findall(r"`(\w+)`", cells[0])
    ]
    assert sorted(named) == sorted(ServerConfig.model_fields)


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[str]:
    """Address and port of a real grid."""
    config = uvicorn.Config(create_app(Settings(data_dir=tmp_path, poll_seconds=0.05)), log_config=None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield "{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join()


def test_the_readmes_example_trains_a_model(grid: str) -> None:
    source = code(ROOT / "README.md", "python")
    assert len(source.splitlines()) <= 15
    names = {}
    exec(source.replace("localhost:5000", grid), names)
    owner = names["grid"]
    deadline = time.monotonic() + 20  # the average is made after the worker has its answer
    while len(owner.status("digits").models[0].checkpoints) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    owner.close()


def test_the_plans_pages_examples_make_plans() -> None:
    page = (ROOT / "docs" / "plans.md").read_text()
    names = {
        "model": torch.nn.Linear(4, 3),
        "images": torch.randn(8, 4),
        "labels": torch.zeros(8, dtype=torch.int64),
        "x": torch.randn(8, 4),
        "y": torch.randn(8),
        "w": torch.randn(4),
        "b": torch.zeros(1),
    }
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
        assert names["plan"].input_specs
