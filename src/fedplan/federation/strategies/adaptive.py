"""FedAdagrad, FedAdam and FedYogi (Reddi et al. 2021, "Adaptive federated optimization", algorithm 2)."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from fedplan.federation.state import ServerState
from fedplan.federation.strategies.configuration import Positive, Share, StrategyConfig
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import Change, Strategy
from fedplan.federation.sums import Average
from fedplan.federation.tensors import Float64s, Tensors


class AdaptiveConfig(StrategyConfig):
    """Settings that the three have together."""

    lr: Positive = 0.1
    """The server's learning rate, η in the paper, which tunes it for each task."""
    beta1: Share = 0.9
    """Momentum of the average."""
    tau: Positive = 1e-3
    """Degree of adaptivity: what is added to the root of the second moment, which begins as τ²."""


class FedAdagradConfig(AdaptiveConfig):
    """Settings of FedAdagrad."""

    name: Literal["fedadagrad"] = "fedadagrad"
    beta1: Share = 0.0
    """Momentum of the average; the paper has none here."""


class FedAdamConfig(AdaptiveConfig):
    """Settings of FedAdam."""

    name: Literal["fedadam"] = "fedadam"
    beta2: Share = 0.99
    """Decay of the second moment."""


class FedYogiConfig(AdaptiveConfig):
    """Settings of FedYogi."""

    name: Literal["fedyogi"] = "fedyogi"
    beta2: Share = 0.99
    """Decay of the second moment."""


def fedadagrad(config: FedAdagradConfig, setting: Setting) -> Strategy:
    """FedAdagrad: v ← v + Δ²."""
    return _adaptive(config, setting, lambda v, squares: v + squares)


def fedadam(config: FedAdamConfig, setting: Setting) -> Strategy:
    """FedAdam: v ← β₂ v + (1 − β₂) Δ²."""
    return _adaptive(config, setting, lambda v, squares: config.beta2 * v + (1 - config.beta2) * squares)


def fedyogi(config: FedYogiConfig, setting: Setting) -> Strategy:
    """FedYogi: v ← v − (1 − β₂) Δ² sign(v − Δ²)."""
    return _adaptive(
        config, setting, lambda v, squares: v - (1 - config.beta2) * squares * np.sign(v - squares)
    )


def _adaptive(
    config: Any, setting: Setting, second_moment: Callable[[Float64s, Float64s], Float64s]
) -> Strategy:
    """m ← β₁ m + (1 − β₁) Δ; new model = model − lr × m / (√v + τ), where Δ is the average of the diffs."""
    places = setting.trained

    def step(_model: Tensors, average: Average, state: ServerState) -> tuple[Change, ServerState]:
        first = state.tensors.get("m") or setting.zeros(places)
        second = state.tensors.get("v") or [zeros + config.tau**2 for zeros in setting.zeros(places)]
        change = list(average.tensors)
        moments, squares = [], []
        for place, m_before, v_before in zip(places, first, second, strict=True):
            delta = average.tensors[place]
            m = config.beta1 * m_before + (1 - config.beta1) * delta
            v = second_moment(v_before, delta * delta)
            change[place] = config.lr * m / (np.sqrt(v) + config.tau)
            moments.append(m)
            squares.append(v)
        return change, ServerState({"m": moments, "v": squares})

    return Strategy(config.name, setting, step)
