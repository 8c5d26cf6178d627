"""Federations of many kinds, for what must hold for all of them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fedplan
from fedplan.data import DataLoader, TensorDataset
from fedplan.plan import Plan, StepContext
from tests.simulation.cases import BATCH, CLASSES, CONFIG, FEATURES, data_of, net

SIDE = 6


class Series(nn.Module):
    """An LSTM over series, and the scores of its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, 5, batch_first=True)
        self.out = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, steps, features) → (batch, classes)."""
        scores: Tensor = self.out(self.rnn(x)[0][:, -1])
        return scores


def pictures() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3 * (SIDE // 2) ** 2, CLASSES),
    )  # fmt: skip


def step_penalty(output: Tensor, target: Tensor, step: StepContext) -> Tensor:
    """A loss that depends on the numbers of the step and of the cycle."""
    weight = 1.0 + 0.1 * step.number + 0.01 * step.cycle
    return F.cross_entropy(output, target) * weight.squeeze()


def vectors(client: int) -> tuple[Tensor, Tensor]:
    return data_of(client)


def series(client: int) -> tuple[Tensor, Tensor]:
    x, y = data_of(client)
    return torch.stack([x, x.flip(0), -x], 1), y


def images(client: int) -> tuple[Tensor, Tensor]:
    x, y = data_of(client)
    return x.repeat(1, SIDE).reshape(-1, 1, SIDE, SIDE), y


class Case:
    """A federation.

    Args:
        make: the model.
        data: client → its samples.
        server: the server_config.
        config: more of the client_config.
        options: of `training_plan`.
        simulated: more arguments of `simulate`.
        metrics: of the evaluation Plan, beside the accuracy.
    """

    def __init__(
        self,
        make: Callable[[], nn.Module] = net,
        data: Callable[[int], Any] = vectors,
        server: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        loss: Any = F.cross_entropy,
        simulated: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.make, self.data, self.server = make, data, server or {}
        self.config = {**CONFIG, **(config or {})}
        self.loss, self.options, self.more = loss, options, simulated or {}
        self.metrics = {"accuracy": fedplan.accuracy, **(metrics or {})}

    def model(self) -> nn.Module:
        torch.manual_seed(5)
        return self.make()

    def plans(self) -> dict[str, Plan]:
        found = self.data(0)
        x, y = found if isinstance(found, tuple) else vectors(0)
        example = (x[:BATCH], y[:BATCH])
        training = fedplan.training_plan(
            self.model(), self.loss, example=example, metrics={"accuracy": fedplan.accuracy}, **self.options
        )
        evaluation = fedplan.evaluation_plan(
            self.model(), F.cross_entropy, example=example, metrics=self.metrics
        )
        return {"training_plan": training, "evaluation_plan": evaluation}

    def simulate(self, engine: str, rounds: int = 1, **more: Any) -> fedplan.Simulation:
        told = {"clients": [self.data(client) for client in range(11)], **self.more, **more}
        return fedplan.simulate(
            self.model(), self.plans(), told.pop("clients"), self.config, self.server,
            rounds=rounds, seed=4, engine=engine, progress=False, **told,
        )  # fmt: skip


def fedplan_loader(client: int) -> DataLoader:
    return DataLoader(TensorDataset(*data_of(client)), BATCH, seed=client)


def torch_loader(client: int) -> Any:
    data = torch.utils.data.TensorDataset(*data_of(client))
    return torch.utils.data.DataLoader(data, BATCH, shuffle=True)


def frozen() -> nn.Module:
    model = net()
    next(model.parameters()).requires_grad_(False)
    return model


AGREEING: dict[str, Case] = {
    "MLP": Case(),
    "dropout": Case(functools.partial(net, 0.4)),
    "CNN with batch norm": Case(pictures, images),
    "LSTM": Case(Series, series),
    "Adam": Case(optimizer=torch.optim.Adam, config={"lr": 0.01}),
    "SCAFFOLD": Case(
        lambda: fedplan.ControlVariates(net()),
        server={"strategy": {"name": "scaffold", "population": 11}},
    ),
    "FedDyn": Case(
        lambda: fedplan.DynamicRegularizer(net(), 0.1),
        server={"strategy": {"name": "feddyn", "alpha": 0.1, "population": 11}},
    ),
    "FedProx": Case(proximal="mu", config={"mu": 0.3}),
    "FedNova": Case(server={"strategy": "fednova"}),
    "uniform weights": Case(server={"weighting": "uniform"}),
    "float16": Case(server={"report_formats": ["float16"]}),
    "int8": Case(server={"report_formats": ["int8"]}),
    "topk": Case(server={"report_formats": ["topk"]}),
    "a frozen layer": Case(frozen),
    "a personal layer": Case(private=["3.*"]),
    "numbers of step and cycle": Case(loss=step_penalty),
    "few steps": Case(config={"max_updates": 2}),
    "median": Case(server={"strategy": "median", "min_diffs": 8}),
    "loaders": Case(data=fedplan_loader),
    "loaders of torch": Case(data=torch_loader),
    "data sets": Case(data=lambda client: TensorDataset(*data_of(client))),
    "liars": Case(
        simulated={"behaviour": [fedplan.SignFlip(share=0.4), fedplan.LabelFlip(share=0.4, classes=3)]}
    ),
    "measuring clients": Case(server={"evaluation": {"fraction": 0.3}, "num_cycles": 3}),
}

ROUNDING = {"float16": 1e-3, "int8": 1e-2, "topk": 1e-5, "Adam": 3e-6, "LSTM": 3e-6}
"""How far results may lie apart, of the update's largest entry. A value beside a step of a smaller form may
be rounded to another one; Adam divides by roots of small numbers; PyTorch's LSTM for one client rounds in its
own way."""
