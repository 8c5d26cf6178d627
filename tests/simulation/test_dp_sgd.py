"""DP-SGD in a simulation: clients draw the batches and the noise that workers would draw."""

import functools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fedplan
from fedplan.errors import ConfigError
from fedplan.plan import DpSgd, Plan, model_parameters, training_plan
from tests.simulation.cases import same_bits

DP = DpSgd(max_grad_norm=0.5, noise_multiplier=0.5, expected_batch_size=4)
SIZES = (8, 20, 3)


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Linear(5, 3)


def data_of(client: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(client)
    rows = SIZES[client]
    return torch.randn(rows, 5, generator=generator), torch.randint(3, (rows,), generator=generator)


@functools.cache
def a_plan() -> Plan:
    return training_plan(net(), F.cross_entropy, example=data_of(0), dp=DP)


def simulate(**options: Any) -> fedplan.Simulation:
    config = {"name": "m", "version": "1.0", "lr": 0.1}
    data = [data_of(client) for client in range(len(SIZES))]
    told: dict[str, Any] = {"rounds": 2, "progress": False, "engine": "sequential", **options}
    return fedplan.simulate(net(), {"training_plan": a_plan()}, data, config, {}, **told)


def test_a_seed_decides_batches_and_noise_and_no_loss_is_told() -> None:
    one, again, other = (simulate(seed=seed) for seed in (1, 1, 2))
    assert same_bits(one.model, again.model)
    assert not same_bits(one.model, other.model)
    assert [(row.samples, row.metrics) for row in one.history] == [(sum(SIZES), {})] * 2
    assert all(
        (a != b).all() for a, b in zip(one.model.params, model_parameters(net()), strict=True)
    )  # noise is on each


def test_clients_are_computed_one_after_the_other() -> None:
    with pytest.raises(ConfigError, match="does DP-SGD, and each client draws batches of other sizes"):
        simulate(engine="batched")
    assert same_bits(simulate(engine="auto", workers=1).model, simulate().model)
