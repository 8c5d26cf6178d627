"""What the docs say is true: their tables are held against the code, and their examples run."""

import copy
import re
import textwrap
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fedplan
from fedplan.federation.strategies.known import KINDS
from fedplan.grid import Settings
from fedplan.grid.observing.events import MEANINGS, Kind
from fedplan.wire.config import ServerConfig
from tests.cli.conftest import fedplan_process
from tests.processes import Process

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


def test_the_table_of_events_has_every_kind_and_no_other() -> None:
    described = [[f"`{kind}`", meaning] for kind, meaning in MEANINGS.items()]
    assert rows("grid.md", "What happened, and why") == described
    assert list(MEANINGS) == list(Kind)


def test_the_table_of_the_server_config_has_every_key_and_no_other() -> None:
    named = [
        name for cells in rows("grid.md", "How a cycle runs") for name in re.findall(r"`(\w+)`", cells[0])
    ]
    assert sorted(named) == sorted(ServerConfig.model_fields)


def test_the_table_of_strategies_has_every_setting_with_its_default() -> None:
    described = {}
    for name, settings, _ in rows("strategies.md", "Settings of a strategy"):
        pairs = re.findall(r"`(\w+)`(?: ([\d.e-]+))?", settings)
        described[name.strip("`")] = {key: float(value) if value else None for key, value in pairs}
    assert described == {
        kind.name: {
            key: float(field.default) if isinstance(field.default, int | float) else None
            for key, field in kind.config.model_fields.items()
            if key not in ("name", "clip_norm")
        }
        for kind in KINDS
    }


KEEPING = """
import runpy, sys, torch
names = runpy.run_path(sys.argv[1])
torch.save({"model": names["model"].state_dict(), "x": names["x"], "y": names["y"]}, sys.argv[2])
"""
"""Runs a script as `python SCRIPT` does, and keeps what it holds at its end."""


def test_the_readmes_example_hands_back_the_model_that_the_worker_trained(tmp_path: Path) -> None:
    source = code(ROOT / "README.md", "python")
    assert len(source.splitlines()) <= 15
    script, kept = tmp_path / "readme.py", tmp_path / "kept.pt"
    with fedplan_process("serve", "--port", 0, "--data", tmp_path / "grid") as grid:
        url = grid.stdout.readline().strip()
        script.write_text(source.replace("localhost:5000", url.removeprefix("http://")))
        with Process("-c", KEEPING, script, kept) as run:
            errors = run.communicate(timeout=120)[1]
        assert run.returncode == 0, errors
        with fedplan.ModelCentricFLClient(url) as owner:
            hosted = owner.retrieve_model("digits", "1", 1).params
    found = torch.load(kept)

    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))  # as README has it
    fedplan.SyftModel(hosted).load_into(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in zip(found["x"].split(8), found["y"].split(8), strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    for before, trained, ours in zip(hosted, model.parameters(), found["model"].values(), strict=True):
        torch.testing.assert_close(ours, trained.detach(), rtol=0, atol=1e-5)
        assert (ours - before).abs().max() > 1e-3


def test_the_reference_pages_example_of_transforms_prepares_batches() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    (block,) = [text for text in re.findall(r"  ```python\n(.*?)  ```", page, re.DOTALL) if "Compose" in text]
    images, labels = torch.rand(6, 2, 3), torch.tensor([3, 1, 4, 1, 5, 9])
    names = {"images": images, "labels": labels}
    exec(textwrap.dedent(block), names)
    first, second = names["loader"]
    torch.testing.assert_close(first[0], (images[:4].reshape(4, 6) - 0.5) / 0.25)
    assert second[1].argmax(1).tolist() == [5, 9]
    assert second[1].shape == (2, 10)


def test_the_plans_pages_examples_make_plans_and_train_as_by_hand() -> None:
    page = (ROOT / "docs" / "plans.md").read_text()
    names: dict[str, Any] = {}  # what the blocks before have made
    trained = 0
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        made = names.pop("plan", None) if "plan = " in block else None
        exec(block, names)
        assert names["plan"].input_specs
        assert names["plan"] is not made
        if "trained = " in block:
            trained += 1
            _check_trained(names)
    assert trained == 1


def _check_trained(names: dict[str, Any]) -> None:
    """What the page's trainer has made is what a loop in PyTorch makes."""
    model = copy.deepcopy(names["model"])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.9, 0.99))
    for _ in range(3):
        for x, y in zip(names["images"].split(4), names["labels"].split(4), strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    torch.testing.assert_close(names["trained"], [p.detach() for p in model.parameters()])


def test_the_plans_pages_policy_lets_a_perceptron_train(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "plans.md").read_text()
    (block,) = re.findall(r"```toml\n(# policy.toml.*?)```", page, re.DOTALL)
    (tmp_path / "policy.toml").write_text(block)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    example = torch.randn(8, 64), torch.randint(10, (8,))
    loss, metrics = nn.functional.cross_entropy, {"accuracy": fedplan.accuracy}
    plan = fedplan.training_plan(model, loss, example=example, metrics=metrics)
    assert fedplan.ConsentPolicy.read(tmp_path / "policy.toml").refusals(plan, 64) == []
