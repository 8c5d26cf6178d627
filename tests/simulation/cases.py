"""Small models, Plans and data of many clients, for the tests of simulation."""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fedplan
from fedplan.plan import Plan

FEATURES, CLASSES, BATCH = 6, 3, 4

CONFIG: dict[str, Any] = {"name": "m", "version": "1.0", "batch_size": BATCH, "lr": 0.2, "max_epochs": 2}


def data_of(client: int) -> tuple[Tensor, Tensor]:
    """The samples of a client: 9 to 15, so that the last batches differ."""
    generator = torch.Generator().manual_seed(client)
    count = 9 + client % 7
    x = torch.randn(count, FEATURES, generator=generator)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()


def net(dropout: float = 0.0) -> nn.Module:
    state = torch.get_rng_state()
    torch.manual_seed(3)
    made = nn.Sequential(nn.Linear(FEATURES, 5), nn.ReLU(), nn.Dropout(dropout), nn.Linear(5, CLASSES))
    torch.set_rng_state(state)
    return made


def model_of(kind: str = "plain") -> nn.Module:
    """A model: plain, with dropout, with a batch norm, or for SCAFFOLD."""
    if kind == "scaffold":
        return fedplan.ControlVariates(net())
    if kind == "norm":
        return nn.Sequential(nn.BatchNorm1d(FEATURES), net())
    return net(0.4 if kind == "dropout" else 0.0)


@functools.cache
def plans_of(kind: str = "plain", evaluates: bool = False) -> Mapping[str, Plan]:
    """The Plans for it."""
    model = model_of(kind)
    example = (torch.zeros(BATCH, FEATURES), torch.zeros(BATCH, dtype=torch.int64))
    metrics = {"accuracy": fedplan.accuracy}
    plans = {"training_plan": fedplan.training_plan(model, F.cross_entropy, example=example, metrics=metrics)}
    if evaluates:
        plans["evaluation_plan"] = fedplan.evaluation_plan(
            model, F.cross_entropy, example=example, metrics=metrics
        )
    return plans


def clients(count: int = 10) -> list[tuple[Tensor, Tensor]]:
    return [data_of(number) for number in range(count)]


def simulate(
    *, kind: str = "plain", evaluates: bool = False, server: Mapping[str, Any] | None = None, **options: Any
) -> fedplan.Simulation:
    """A simulation, by default of two rounds with ten clients, each computed as a worker would."""
    usual = {"clients": clients(), "client_config": CONFIG, "rounds": 2, "progress": False}
    told = {**usual, "engine": "sequential", **options}
    return fedplan.simulate(
        model_of(kind),
        plans_of(kind, evaluates),
        told.pop("clients"),
        told.pop("client_config"),
        server or {},
        **told,
    )


def same_bits(one: fedplan.SyftModel, other: fedplan.SyftModel) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.params, other.params, strict=True))
