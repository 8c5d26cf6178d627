"""The examples of docs/strategies.md run as they stand, on a real grid, and their values are right."""

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fedplan
from fedplan.federation.strategies import registry
from fedplan.grid import Settings, create_app
from tests.client.small_grid import serve

PAGE = Path(__file__).parents[1] / "docs" / "strategies.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
IMAGES, LABELS = torch.randn(12, 6, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3
CONFIG = {"name": "mnist", "version": "1.0.0", "batch_size": 12, "lr": 0.5}


def block(words: str) -> str:
    (found,) = [text for text in BLOCKS if words in text]
    return found


def run(text: str, names: dict[str, Any]) -> dict[str, Any]:
    """Runs an example, also one that awaits; returns its names."""
    code = compile(text, PAGE.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    made = eval(code, names)
    if inspect.iscoroutine(made):
        asyncio.run(made)
    return names


def net() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 3)


def gradient(model: nn.Module) -> list[torch.Tensor]:
    loss = nn.functional.cross_entropy(model(IMAGES), LABELS)
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[fedplan.ModelCentricFLClient]:
    settings = Settings(data_dir=tmp_path, poll_seconds=0.05, retry_seconds=0.2)
    with serve(create_app(settings)) as url, fedplan.ModelCentricFLClient(url) as owner:
        yield owner


def names(grid: fedplan.ModelCentricFLClient, **more: Any) -> dict[str, Any]:
    loss, batch = nn.functional.cross_entropy, (IMAGES, LABELS)
    return {
        "fedplan": fedplan,
        "grid": grid,
        "model": net(),
        "net": net(),
        "loss": loss,
        "batch": batch,
        "client_config": CONFIG,
        **more,
    }


def trained(grid: fedplan.ModelCentricFLClient, server_config: dict[str, Any]) -> list[torch.Tensor]:
    """The checkpoint that one worker makes of `net` in one cycle."""
    plan = fedplan.training_plan(net(), nn.functional.cross_entropy, example=(IMAGES, LABELS))
    grid.host_federated_training(net(), {"training_plan": plan}, CONFIG, {**server_config, "min_diffs": 1})
    fedplan.participate(grid.url, "mnist", "1.0.0", IMAGES, LABELS)
    grid.wait("mnist", "1.0.0", checkpoint=2, timeout=30)
    return list(grid.retrieve_model("mnist", "1.0.0").params)


def test_a_strategy_is_chosen_in_the_server_config(grid: fedplan.ModelCentricFLClient) -> None:
    config = run(block('"name": "fedadam"'), {})["server_config"]
    made = trained(grid, {**config, "cycle_length": 1})
    for before, after, slope in zip(net().parameters(), made, gradient(net()), strict=True):
        delta, tau = 0.5 * slope, 1e-3
        second = 0.99 * tau**2 + 0.01 * delta**2
        step = 0.05 * 0.1 * delta / (second.sqrt() + tau)  # Reddi et al. 2021, the first round
        torch.testing.assert_close(after, before.detach() - step, rtol=0, atol=1e-5)


def test_scaffold_is_hosted(grid: fedplan.ModelCentricFLClient) -> None:
    run(block("ControlVariates"), names(grid))
    (model,) = grid.status().models
    assert (model.cycle.needed, model.cycle.limit) == (10, 10)
    assert [plan.name for plan in model.plans] == ["training_plan"]


def test_a_model_is_measured_and_its_history_printed(
    grid: fedplan.ModelCentricFLClient, capsys: pytest.CaptureFixture[str]
) -> None:
    given = names(grid, server_config={"max_diffs": 1, "num_cycles": 1})
    hosting, reading = block("evaluation_plan(").split("…\n")
    run(hosting, given)
    fedplan.participate(grid.url, "mnist", "1.0.0", IMAGES, LABELS, cycles=None, wait=True)
    grid.wait("mnist", "1.0.0", evaluated=True, timeout=30)
    run(reading, given)
    expected = []
    for number, reports in ((1, 1), (2, 1)):
        model = net()
        grid.retrieve_model("mnist", "1.0.0", number).load_into(model)
        share = float((model(IMAGES).argmax(1) == LABELS).float().mean())
        expected.append((number, reports, 12.0, share))
    printed = [tuple(map(float, line.split())) for line in capsys.readouterr().out.splitlines()]
    assert printed == [pytest.approx(row) for row in expected]


def test_a_job_measures_where_it_is_asked_to(grid: fedplan.ModelCentricFLClient) -> None:
    server = run(block('"evaluation": {"fraction"'), {})["server_config"] | {"max_diffs": 1, "num_cycles": 1}
    run(block("evaluation_plan(").split("…\n")[0], names(grid, server_config=server))
    fedplan.participate(grid.url, "mnist", "1.0.0", IMAGES, LABELS)
    grid.wait("mnist", "1.0.0", finished=True, timeout=30)
    syft = fedplan.Syft(grid.url)
    example = block("evaluates=True") + "await syft.aclose()\n"
    job = run(example, {"syft": syft, "images": IMAGES, "labels": LABELS})["job"]
    assert job.task == "evaluation"
    assert grid.status().models[0].cycle.reported == 1


def test_a_strategy_of_ones_own(grid: fedplan.ModelCentricFLClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))  # no other test shall know it
    run(block("class HalfConfig"), {"__name__": "half"})
    made = trained(grid, {"cycle_length": 1, "strategy": {"name": "half", "share": 0.25}})
    for before, after, slope in zip(net().parameters(), made, gradient(net()), strict=True):
        torch.testing.assert_close(after, before.detach() - 0.25 * 0.5 * slope, rtol=0, atol=1e-6)
