"""FedNova: averages of updates that took different numbers of steps."""

import math
from typing import Literal

from fedplan.federation.state import ServerState
from fedplan.federation.strategies.averaging import scaled
from fedplan.federation.strategies.configuration import Positive, StrategyConfig
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import Change, Strategy, Told
from fedplan.federation.sums import Average
from fedplan.federation.tensors import Tensors
from fedplan.federation.update import Contribution, Update


class FedNovaConfig(StrategyConfig):
    """Settings of FedNova."""

    name: Literal["fednova"] = "fednova"
    lr: Positive = 1.0
    """The server's learning rate."""


def fednova(config: FedNovaConfig, setting: Setting) -> Strategy:
    """FedNova (Wang et al. 2020) for workers that train with plain SGD.

    Each diff is divided by its number of steps τᵢ; the average is multiplied by the mean of τᵢ, so that a
    worker with many steps does not pull the model towards its own optimum.
    """

    def prepare(update: Update) -> Contribution:
        steps = float(update.summary.steps or math.nan)  # a report that does not tell them is refused
        return Contribution(1.0 / steps, {"steps": steps})

    def step(_model: Tensors, average: Average, state: ServerState) -> tuple[Change, ServerState]:
        return scaled(average, setting, config.lr * average.numbers["steps"]), state

    return Strategy("fednova", setting, step, prepare, needs=frozenset({Told.STEPS}))
