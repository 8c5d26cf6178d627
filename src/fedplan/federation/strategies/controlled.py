"""SCAFFOLD and FedDyn: both correct the drift of workers with what they remember of them."""

from typing import Literal

from fedplan.errors import ConfigError
from fedplan.federation.state import ServerState
from fedplan.federation.strategies.averaging import scaled
from fedplan.federation.strategies.configuration import Positive, StrategyConfig
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import Change, Strategy
from fedplan.federation.sums import Average
from fedplan.federation.tensors import Tensors
from fedplan.plan.remembered import Remembered
from fedplan.plan.signature import Role
from fedplan.wire.amounts import Count


class ScaffoldConfig(StrategyConfig):
    """Settings of SCAFFOLD."""

    name: Literal["scaffold"] = "scaffold"
    population: Count
    """How many workers there are in all, N in the paper."""
    lr: Positive = 1.0
    """The server's learning rate."""


def scaffold(config: ScaffoldConfig, setting: Setting) -> Strategy:
    """SCAFFOLD (Karimireddy et al. 2020), with option II for the workers' control variates.

    The model is a `ControlVariates`: it holds the control variate c beside its parameters, and each worker
    keeps its own one for itself. It reports −Δc as the diff of c. Workers count the same, as in the paper:
    model −= lr × mean(diff) and c += |S|/N × mean(Δc), where |S| workers reported.
    """
    controls = setting.places(Role.CONTROL)
    if not controls:
        raise ConfigError(
            "server_config: strategy: scaffold needs a model that holds control variates: host "
            "fedplan.ControlVariates(model), and make the Plan with it"
        )

    def step(_model: Tensors, average: Average, state: ServerState) -> tuple[Change, ServerState]:
        change = list(scaled(average, setting, config.lr))
        for place in controls:
            change[place] = change[place] * (average.reports / config.population)
        return change, state

    return Strategy(
        "scaffold",
        setting,
        step,
        uniform=True,
        population=config.population,
        remembers=Remembered.CONTROL_VARIATES,
    )


class FedDynConfig(StrategyConfig):
    """Settings of FedDyn."""

    name: Literal["feddyn"] = "feddyn"
    population: Count
    """How many workers there are in all, m in the paper."""
    alpha: Positive
    """Strength of the regularisation: the same number as the client_config's that the Plan reads."""


def feddyn(config: FedDynConfig, setting: Setting) -> Strategy:
    """FedDyn (Acar et al. 2021), for models that are a `DynamicRegularizer`.

    h ← h + α |S|/m × mean(diff); new model = mean of the workers' models − h/α.
    """
    places = setting.trained

    def step(_model: Tensors, average: Average, state: ServerState) -> tuple[Change, ServerState]:
        before = state.tensors.get("h") or setting.zeros(places)
        share = config.alpha * average.reports / config.population
        after = [h + share * average.tensors[place] for h, place in zip(before, places, strict=True)]
        change = list(average.tensors)
        for place, h in zip(places, after, strict=True):
            change[place] = change[place] + h / config.alpha
        return change, ServerState({"h": after})

    return Strategy(
        "feddyn",
        setting,
        step,
        uniform=True,
        population=config.population,
        remembers=Remembered.GRADIENTS,
    )
