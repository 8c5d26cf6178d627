"""Examples of docs/grid.md and docs/privacy.md run on a grid; each page with examples has such a test."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from torch import nn

import fedplan
from fedplan.grid import Settings, create_app
from tests.client.small_grid import serve
from tests.docs.pages import DOCS, ROOT, blocks

TESTS = {
    "README.md": "tests/test_docs.py",
    "docs/checks.md": "tests/docs/test_explanations.py",
    "docs/coming-from.md": "tests/docs/test_explanations.py",
    "docs/first-steps.md": "tests/docs/test_first_steps.py",
    "docs/grid.md": "tests/docs/test_examples.py",
    "docs/plans.md": "tests/test_docs.py",
    "docs/privacy.md": "tests/docs/test_examples.py",
    "docs/reference.md": "tests/test_docs.py",
    "docs/simulation.md": "tests/simulation/test_docs.py",
    "docs/strategies.md": "tests/test_docs_strategies.py",
    "docs/wire.md": "tests/docs/test_wire.py",
    "docs/workers.md": "tests/docs/test_explanations.py",
}
"""Which test runs a page's blocks that are marked as `python`. Those marked as `py` are parts of a whole."""

X, Y = torch.randn(12, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


def code(page: str) -> list[str]:
    return [block.text for block in blocks(DOCS / page) if block.language == "python"]


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[fedplan.ModelCentricFLClient]:
    settings = Settings(data_dir=tmp_path / "grid", poll_seconds=0.05, retry_seconds=0.1)
    with serve(create_app(settings)) as url, fedplan.ModelCentricFLClient(url) as owner:
        yield owner


def names(grid: fedplan.ModelCentricFLClient, **more: Any) -> dict[str, Any]:
    model = nn.Linear(6, 3)
    plan = fedplan.training_plan(model, nn.functional.cross_entropy, example=(X, Y))
    client_config = {"name": "mnist", "version": "1.0.0", "batch_size": 4, "lr": 0.1}
    return {
        "fedplan": fedplan,
        "torch": torch,
        "grid": grid,
        "module": model,
        "model": model,
        "plan": plan,
    } | {
        "client_config": client_config,
        **more,
    }


def host(given: dict[str, Any], **server_config: Any) -> None:
    given["grid"].host_federated_training(
        given["model"], {"training_plan": given["plan"]}, given["client_config"], server_config, variants=[]
    )


def test_a_test_is_named_for_each_page_with_examples() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    examples = {page for page in pages if "```python" in page.read_text()}
    assert sorted(page.relative_to(ROOT).as_posix() for page in examples) == sorted(TESTS)
    for page, test in TESTS.items():
        assert Path(page).name in (ROOT / test).read_text(), f"{test} does not read {page}"


def test_waiting_for_a_checkpoint_and_loading_it(grid: fedplan.ModelCentricFLClient, tmp_path: Path) -> None:
    waiting, loading = code("grid.md")
    given = names(grid, token=None)
    host(given, max_diffs=1, num_cycles=1)
    fedplan.participate(grid.url, "mnist", "1.0.0", X, Y)
    exec(waiting.replace("https://grid.example", grid.url), given)
    given["grid"].close()
    before = given["module"].weight.clone()
    torch.save(grid.retrieve_state_dict("mnist", "1.0.0"), tmp_path / "model.pt")
    with contextlib.chdir(tmp_path):
        exec(loading, given)
    assert not torch.equal(given["module"].weight, before)


def test_a_model_is_hosted_with_secure_aggregation_and_a_worker_can_insist_on_it(
    grid: fedplan.ModelCentricFLClient,
) -> None:
    hosting, insisting = code("privacy.md")[:2]
    given = names(grid)
    exec(hosting, given)
    assert grid.status().models[0].cycle.stage == "gather"
    given["client_config"]["version"] = "bare"
    host(given, max_diffs=1)
    asked = {"url": grid.url, "name": "mnist", "version": "bare", "data": X, "target": Y}
    with pytest.raises(fedplan.errors.CycleDeclinedError):
        exec(insisting, {"fedplan": fedplan, **asked})


def test_a_worker_trains_with_dp_sgd_and_knows_what_it_spent(
    grid: fedplan.ModelCentricFLClient, tmp_path: Path
) -> None:
    tracing, training, accepting = code("privacy.md")[4:7]
    given = names(grid, F=nn.functional, images=X, labels=Y, url=grid.url)
    exec(tracing.replace("expected_batch_size=64", "expected_batch_size=4"), given)
    host(given, max_diffs=1, num_cycles=2)
    exec(accepting, given)
    told = io.StringIO()
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(told):
        exec(training.replace("wait=True, cycles=10", "wait=True, cycles=2, accept=accept"), given)
    described, epsilon = told.getvalue().splitlines()
    steps = given["result"].example_privacy
    assert described.startswith("6 steps with a noise multiplier of 1.1 and a sampling rate of ")
    assert 0 < float(epsilon) < 20
    assert steps is not None
    assert float(epsilon) == steps.epsilon(1e-5)


def test_a_model_is_hosted_with_differential_privacy_and_a_worker_can_bound_it(
    grid: fedplan.ModelCentricFLClient,
) -> None:
    configuring, bounding = code("privacy.md")[2:4]
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
    given = names(grid)
    exec(configuring, given)
    server_config = given["server_config"] | {"authentication": {"pub_key": pem}}
    host(given, **server_config)
    assert grid.status().models[0].cycle.limit == 100
    given["client_config"]["version"] = "without"
    host(given, max_diffs=1)
    exec(bounding, given)
    with fedplan.Syft(grid.url) as syft, pytest.raises(fedplan.errors.CycleDeclinedError):
        syft.new_job("mnist", "without").start_blocking(accept=given["accept"])
