"""Histories and sweeps as data frames of pandas."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

import fedplan
from fedplan.errors import ConfigError
from tests.client.owner.test_trackers import HISTORY
from tests.simulation.cases import CONFIG, clients, model_of, plans_of, simulate


def swept() -> fedplan.Sweep:
    told: dict[str, Any] = {
        "rounds": 2,
        "cohort": 4,
        "grid": {"lr": [0.1, 0.2]},
        "seeds": 1,
        "progress": False,
    }
    return fedplan.sweep(model_of(), plans_of(), clients(), CONFIG, {}, **told)


def test_a_history_has_a_row_for_each_cycle() -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = HISTORY.to_pandas()
    assert list(frame.index) == [1, 2]
    assert list(frame["loss"]) == [2.5, 1.5]
    assert list(frame["training_loss"].isna()) == [False, True]


def test_so_has_a_simulation() -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    result = simulate()
    frame = result.to_pandas()
    assert list(frame.index) == [1, 2]
    assert list(frame["training_loss"]) == result.history.values("training_loss")


def test_a_sweep_has_a_row_for_each_cycle_of_each_run() -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = swept().to_pandas()
    assert list(frame["lr"]) == [0.1, 0.1, 0.2, 0.2]
    assert list(frame["cycle"]) == [1, 2, 1, 2]


@pytest.mark.skipif(importlib.util.find_spec("pandas") is not None, reason="pandas is installed")
@pytest.mark.parametrize("made", [lambda: HISTORY, simulate, swept], ids=["history", "simulation", "sweep"])
def test_without_pandas_they_say_what_to_install(made: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match="pandas"):
        made().to_pandas()
