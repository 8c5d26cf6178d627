"""Plans, inputs and expected outputs that PySyft 0.2.9 made, when they lie beside the repository."""

import json
from pathlib import Path

import pytest
import torch

from fedplan.plan import to_torch
from fedplan.wire import State
from tests.shared import FIXTURES

FOLDER = FIXTURES

needs_fixtures = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no PySyft fixtures in {FOLDER}")


def cases() -> list[Path]:
    """The folders that hold a list-variant Plan."""
    return sorted(path.parent for path in FOLDER.glob("**/list.plan.pb"))


def state(path: Path) -> list[torch.Tensor]:
    return [to_torch(tensor) for tensor in State.parse(path.read_bytes()).tensors]


def manifest(op: str) -> dict[str, object]:
    entries = json.loads((FOLDER / "ops" / "ops_manifest.json").read_text())
    return next((entry for entry in entries if entry["op"] == op), {})
