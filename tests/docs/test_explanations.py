"""The examples of the explanations run, and the calls, errors and settings that they name are there."""

import inspect
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fedplan
from fedplan.grid import Settings, create_app
from fedplan.wire.config import ServerConfig
from fedplan.wire.messages import message
from tests.client.small_grid import serve
from tests.docs.pages import DOCS, blocks

CALLS = {name.removeprefix("model-centric/") for name in vars(message).values() if isinstance(name, str)}


def code(page: str) -> list[str]:
    return [block.text for block in blocks(DOCS / page) if block.language == "python"]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    settings = Settings(data_dir=tmp_path, poll_seconds=0.05, retry_seconds=0.1)
    with serve(create_app(settings)) as url:
        yield url


def perceptron() -> tuple[nn.Module, fedplan.Plan]:
    """The model and the Plan of docs/first-steps.md."""
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    example = torch.zeros(8, 64), torch.zeros(8, dtype=torch.int64)
    metrics = {"accuracy": fedplan.accuracy}
    return model, fedplan.training_plan(model, nn.functional.cross_entropy, example=example, metrics=metrics)


def test_the_calls_of_a_cycle_are_calls_of_the_grid() -> None:
    page, picture = (DOCS / "cycle.md").read_text(), (DOCS / "cycle.svg").read_text()
    told = set(re.findall(r"\(`([a-z-]+)`\)", page))
    drawn = {
        call
        for text in re.findall(r"monospace[^>]*>([a-z, -]+)<", picture)
        for call in text.split(", ")
        if " " not in call
    }
    assert told - {"decline"} == drawn
    assert told <= CALLS
    assert {"authenticate", "cycle-request", "report"} <= drawn


def test_the_keys_that_a_cycle_ends_by_are_keys_of_the_server_config() -> None:
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", (DOCS / "cycle.md").read_text()))
    assert named - {"server_config", "client_config"} <= set(ServerConfig.model_fields)
    assert {"max_diffs", "min_diffs", "cycle_length", "place_timeout"} <= named


@pytest.mark.parametrize(
    ("epochs", "width", "refusal"),
    [(1, 64, None), (9, 64, "train for too long"), (1, 2**20, "would take")],
    ids=["within", "too long", "too large"],
)
def test_the_function_that_consents_lets_a_small_plan_run(
    url: str, epochs: int, width: int, refusal: str | None
) -> None:
    accept = run(code("checks.md")[0].replace("(16, 64)", f"(16, {width})"))["accept"]
    model = nn.Linear(width, 2)
    example = torch.zeros(8, width), torch.zeros(8, dtype=torch.int64)
    plan = fedplan.training_plan(model, nn.functional.cross_entropy, example=example)
    client_config = {"name": "m", "version": "1", "batch_size": 8, "lr": 0.1, "max_epochs": epochs}
    with fedplan.ModelCentricFLClient(url) as owner:
        owner.host_federated_training(
            model, {"training_plan": plan}, client_config, {"max_diffs": 1, "num_cycles": 1}, variants=[]
        )
    given = (url, "m", "1", torch.randn(4, width), torch.zeros(4, dtype=torch.int64))
    if refusal is None:
        assert fedplan.participate(*given, accept=accept).cycles == 1
    else:
        with pytest.raises(fedplan.errors.CycleDeclinedError, match=refusal):
            fedplan.participate(*given, accept=accept)


def test_the_policy_lets_the_plan_of_the_first_steps_run() -> None:
    policy = run(code("checks.md")[1], fedplan=fedplan)["policy"]
    assert policy.refusals(perceptron()[1], 16) == []
    assert policy.privacy.secure_aggregation


def test_a_worker_takes_part_in_one_call_and_step_by_step(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    at_once, by_steps = code("workers.md")
    model, plan = perceptron()
    client_config = {"name": "digits", "version": "1.0", "batch_size": 8, "lr": 0.1}
    given = {"url": url, "images": torch.randn(9, 64), "labels": torch.randint(10, (9,))}
    with fedplan.ModelCentricFLClient(url) as owner:
        server_config = {"max_diffs": 1, "num_cycles": 2}
        owner.host_federated_training(
            model, {"training_plan": plan}, client_config, server_config, variants=[]
        )
        run(by_steps, fedplan=fedplan, **given)
        owner.wait("digits", "1.0", checkpoint=2, timeout=30)
        run(at_once, **given)
        owner.wait("digits", "1.0", checkpoint=3, timeout=30)
        assert [row.reports for row in owner.history("digits", "1.0")] == [1, 1]
    assert capsys.readouterr().out == "1 cycles\n"
    run(by_steps, fedplan=fedplan, **given)
    assert capsys.readouterr().out.startswith("not now: ")


def test_the_errors_that_a_worker_is_told_of_are_there() -> None:
    named = set(re.findall(r"`(\w+Error)`", (DOCS / "workers.md").read_text()))
    assert len(named) > 7
    assert [name for name in named if not hasattr(fedplan.errors, name)] == []


def test_the_options_that_a_worker_is_told_of_are_there() -> None:
    table = [line for line in (DOCS / "workers.md").read_text().splitlines() if line.startswith("| ")]
    named = {name for line in table for name in re.findall(r"`(\w+)=", line)}
    assert {"accept", "auth_token", "ca", "seed"} <= named
    assert named <= set(inspect.signature(fedplan.participate).parameters)


def test_the_task_of_other_systems_runs_simulated_and_deployed(url: str) -> None:
    task, simulated, deployed = code("coming-from.md")
    names = run(task)
    names["server_config"]["num_cycles"] = 2
    clients = [(torch.randn(20, 64), torch.randint(10, (20,))) for _ in range(2)]
    names = run(simulated, **names, clients=clients)
    assert len(names["result"].history) == 2
    hosting, taking_part = deployed.split("\n\n")
    run(hosting, **names, url=url)
    workers = [
        threading.Thread(
            target=run, args=(taking_part,), kwargs={**names, "url": url, "images": x, "labels": y}
        )
        for x, y in clients
    ]
    for worker in workers:
        worker.start()
    with fedplan.ModelCentricFLClient(url) as owner:
        assert owner.wait("digits", "1.0", finished=True, timeout=60).cycle.number == 2
    for worker in workers:
        worker.join(60)


def run(text: str, **names: Any) -> dict[str, Any]:
    """Runs an example; returns its names."""
    exec(text, names)
    return names
