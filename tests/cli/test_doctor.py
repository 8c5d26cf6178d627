"""`fedplan doctor`: what is installed, what is missing, and whether a grid can be reached."""

import importlib.metadata
import json
import tomllib
from pathlib import Path

import pytest

from fedplan.cli.doctor import EXTRAS, look_at_extra
from tests.cli.conftest import Invoke

ROOT = Path(__file__).parents[2]


def test_it_knows_every_extra_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(declared) - {"dev", "docs", "fuzz"}  # what developers need


def test_all_that_is_needed_is_there(fedplan: Invoke, grid_url: str) -> None:
    result = fedplan("doctor", grid_url, "--json")
    assert result.exit_code == 0, result.output
    found = {one["what"]: one for one in json.loads(result.stdout)}
    assert found["requirements"]["state"] == "fine"
    assert found["PyTorch"]["state"] == "fine"
    assert found["extra grid"] == {"what": "extra grid", "state": "fine", "told": "for running a grid"}
    assert found["grid"]["told"].startswith("answers within ")


def test_a_grid_that_is_not_there_is_told_and_makes_the_exit_code_1(fedplan: Invoke) -> None:
    result = fedplan("doctor", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "fine" in result.stdout
    assert "127.0.0.1:9" in result.stdout.split("wrong", 1)[1]


def test_a_url_that_is_none_is_told(fedplan: Invoke) -> None:
    result = fedplan("doctor", "grid.example", "--json")
    (grid,) = [one for one in json.loads(result.stdout) if one["what"] == "grid"]
    assert grid["state"] == "wrong"
    assert "must begin with https://" in grid["told"]


class TestRequirements:
    @pytest.fixture(autouse=True)
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        versions = {"fastapi": "0.99.1", "asyncpg": "0.31"}

        def version(name: str) -> str:
            if name not in versions:
                raise importlib.metadata.PackageNotFoundError(name)
            return versions[name]

        needed = [
            'asyncpg>=0.30; extra == "postgres"', 'fastapi>=0.115; extra == "grid"',
            'jinja2>=3.1; extra == "grid"', 'fedplan[grid]; extra == "demo"', 'torch>=2.11',
        ]  # fmt: skip
        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)

    def test_that_are_there_are_fine(self) -> None:
        assert look_at_extra("postgres").state == "fine"

    @pytest.mark.parametrize("extra", ["grid", "demo"])
    def test_that_are_missing_or_old_are_told_with_what_to_install(self, extra: str) -> None:
        found = look_at_extra(extra)
        assert found.state == "missing"
        assert "fastapi is 0.99.1, and must be 0.115 or newer; jinja2 is not installed" in found.told
        assert found.told.endswith(f": pip install 'fedplan[{extra}]'")

    def test_of_every_installation_must_be_there(self, fedplan: Invoke) -> None:
        result = fedplan("doctor")
        assert result.exit_code == 1
        assert "torch is not installed" in result.stdout
