"""FedAvg, and FedAvg with a server's momentum."""

from typing import Literal

from fedplan.federation.state import ServerState
from fedplan.federation.strategies.configuration import Positive, Share, StrategyConfig
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import Change, Strategy
from fedplan.federation.sums import Average
from fedplan.federation.tensors import Tensors


class FedAvgConfig(StrategyConfig):
    """Settings of FedAvg."""

    name: Literal["fedavg"] = "fedavg"
    lr: Positive = 1.0
    """The server's learning rate: what the average is multiplied by."""


def fedavg(config: FedAvgConfig, setting: Setting) -> Strategy:
    """FedAvg (McMahan et al. 2017): new model = model − lr × weighted average of the diffs."""

    def step(_model: Tensors, average: Average, state: ServerState) -> tuple[Change, ServerState]:
        return scaled(average, setting, config.lr), state

    return Strategy("fedavg", setting, step)


class FedAvgMConfig(StrategyConfig):
    """Settings of FedAvgM."""

    name: Literal["fedavgm"] = "fedavgm"
    lr: Positive = 1.0
    """The server's learning rate."""
    momentum: Share = 0.9
    """β in the paper."""


def fedavgm(config: FedAvgMConfig, setting: Setting) -> Strategy:
    """FedAvgM (Hsu, Qi and Brown 2019): v ← β v + average; new model = model − lr × v."""

    def step(_model: Tensors, average: Average, state: ServerState) -> tuple[Change, ServerState]:
        places = setting.trained
        before = state.tensors.get("momentum") or setting.zeros(places)
        after = [
            config.momentum * v + average.tensors[place] for v, place in zip(before, places, strict=True)
        ]
        change = list(average.tensors)
        for v, place in zip(after, places, strict=True):
            change[place] = config.lr * v
        return change, ServerState({"momentum": after})

    return Strategy("fedavgm", setting, step)


def scaled(average: Average, setting: Setting, factor: float) -> Change:
    """The average with its trained tensors multiplied; running statistics and counters stay what they are."""
    if factor == 1.0:
        return average.tensors
    change = list(average.tensors)
    for place in setting.trained:
        change[place] = factor * change[place]
    return change
