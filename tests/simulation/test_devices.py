"""Simulations on the CPU and on accelerators: the same rounds, and results that are on the CPU."""

from typing import Any

import pytest
import torch

from tests.devices import ACCELERATORS
from tests.simulation.cases import data_of, same_bits, simulate


def test_the_processor_is_the_device_when_none_is_named() -> None:
    assert same_bits(simulate(device="cpu").model, simulate().model)


@pytest.mark.parametrize("device", ACCELERATORS)
@pytest.mark.parametrize("kind", ["plain", "dropout", "scaffold"])
@pytest.mark.parametrize("engine", ["sequential", "batched"])
def test_a_device_trains_as_the_processor_does(device: str, kind: str, engine: str) -> None:
    strategy: dict[str, Any] = (
        {"strategy": {"name": "scaffold", "population": 10}} if kind == "scaffold" else {}
    )
    options: dict[str, Any] = {"kind": kind, "server": strategy, "evaluates": True, "test": data_of(77)}
    result = simulate(device=device, engine=engine, **options)
    expected = simulate(engine="sequential", **options)
    for ours, theirs in zip(result.model.params, expected.model.params, strict=True):
        assert ours.device == torch.device("cpu")
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for name in ("loss", "training_loss", "test_loss"):
        ours_by_cycle, theirs_by_cycle = (one.history.values(name) for one in (result, expected))
        assert ours_by_cycle == pytest.approx(theirs_by_cycle, rel=1e-4)
