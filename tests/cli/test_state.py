"""`fedplan state`."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedplan.wire import State, WireTensor
from tests.cli.conftest import Invoke


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.pb"
    tensors = [
        WireTensor(np.array([[1, 2, 3], [4, 5, 6]], "<f4"), "float32"),
        WireTensor(np.array([np.inf, 1], "<f4"), "float32"),
        WireTensor(np.zeros((0, 4), "<f4"), "float32"),
        WireTensor(np.array([0x3F80, 0xC000], "<u2"), "bfloat16"),  # the bits of 1 and −2
        WireTensor(np.array([10, 14], "|i1"), "qint8", scale=0.5, zero_point=10),
        WireTensor(np.array([True, False]), "bool"),
    ]
    path.write_bytes(State.of(tensors).serialize())
    return path


def test_show_gives_a_row_for_each_tensor(fedplan: Invoke, state: Path) -> None:
    result = fedplan("state", "show", state)
    assert result.exit_code == 0
    rows = [line.split() for line in result.output.splitlines() if line.strip()[:1].isdigit()]
    assert rows[0] == ["0", "2×3", "float32", "1", "3.5", "6", "#0", "#state-0"]
    assert rows[2][:6] == ["2", "0×4", "float32", "–", "–", "–"]
    assert result.output.splitlines()[-1] == "6 tensors, 14 values, 40 B"


def test_quantized_and_bfloat16_tensors_are_shown_by_what_they_stand_for(
    fedplan: Invoke, state: Path
) -> None:
    tensors = json.loads(fedplan("state", "show", state, "--json").output)["tensors"]
    assert (tensors[3]["min"], tensors[3]["max"]) == (-2, 1)
    assert (tensors[4]["min"], tensors[4]["mean"], tensors[4]["max"]) == (0, 1, 2)
    assert tensors[5]["mean"] == 0.5


def test_json_holds_nothing_but_json(fedplan: Invoke, state: Path) -> None:
    tensors = json.loads(fedplan("state", "show", state, "--json").output)["tensors"]
    assert tensors[1] == {
        "index": 1, "shape": [2], "dtype": "float32", "min": 1.0, "mean": None, "max": None,
        "tags": ["#1", "#state-1"], "trained": False,
    }  # fmt: skip


def test_a_file_that_is_no_state_is_named(fedplan: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "photo.pb"
    path.write_bytes(b"\xff\xd8\xff\xe0 a photograph")
    result = fedplan("state", "show", path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"fedplan: {path}: this is not a serialized State: ")
