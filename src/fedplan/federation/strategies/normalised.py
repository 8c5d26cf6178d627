"""FedNova: averages of updates that took different numbers of steps."""

import math
from typing import Annotated, Literal

from pydantic import Field

from fedplan.federation.state import ServerState
from fedplan.federation.strategies.averaging import scaled
from fedplan.federation.strategies.configuration import Positive, StrategyConfig
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import Change, Strategy, Told
from fedplan.federation.sums import Average
from fedplan.federation.tensors import Tensors
from fedplan.federation.update import Contribution, Update
from fedplan.wire import WireTensor


class FedNovaConfig(StrategyConfig):
    """Settings of FedNova."""

    name: Literal["fednova"] = "fednova"
    lr: Positive = 1.0
    """The server's learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The momentum ρ of the workers' SGD."""


def fednova(config: FedNovaConfig, setting: Setting) -> Strategy:
    """FedNova (Wang et al. 2020) for workers that train with SGD.

    Each diff is divided by ‖aᵢ‖₁, and the average is multiplied by the mean of these, so that a worker with
    many steps does not pull the model towards its own optimum. ‖aᵢ‖₁ says how often a diff holds a gradient:
    the number of steps τᵢ; with a momentum ρ, (τᵢ − ρ (1 − ρ^τᵢ) / (1 − ρ)) / (1 − ρ).

    Nothing proves the number of steps that a worker tells. Where the server_config has a ``max_norm``, the
    step (before it is multiplied by the server's learning rate) is therefore no longer than that, as a mean
    of diffs cannot be either.
    """
    momentum = config.momentum

    def prepare(update: Update) -> Contribution:
        steps = float(update.summary.steps or math.nan)  # a report that does not tell them is refused
        length = (steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum)
        return Contribution(1.0 / length, {"length": length})

    def step(_model: Tensors, average: Average, state: ServerState) -> tuple[Change, ServerState]:
        return scaled(average, setting, config.lr * _length(average, setting)), state

    return Strategy("fednova", setting, step, prepare, needs=frozenset({Told.STEPS}))


def _length(average: Average, setting: Setting) -> float:
    """How often the average of divided diffs is taken: the mean of ‖aᵢ‖₁, or fewer for max_norm."""
    length, most = average.numbers["length"], setting.server.max_norm
    if most is None:
        return length
    norm = setting.norm([WireTensor(values, "float64") for values in average.tensors])
    return min(length, most / norm) if norm else length
