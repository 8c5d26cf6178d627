"""q-FedAvg: workers on whose data the model is worse count more."""

from typing import Literal

from fedplan.errors import ConfigError
from fedplan.federation.state import ServerState
from fedplan.federation.strategies.averaging import scaled
from fedplan.federation.strategies.configuration import NotNegative, Positive, StrategyConfig
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import Change, Strategy, Told
from fedplan.federation.sums import Average
from fedplan.federation.tensors import Tensors
from fedplan.federation.update import Contribution, Update

_LEAST_LOSS = 1e-10


class QFedAvgConfig(StrategyConfig):
    """Settings of q-FedAvg."""

    name: Literal["qfedavg"] = "qfedavg"
    q: NotNegative = 0.2
    """How much fairness counts; 0 is FedAvg."""
    lr: Positive | None = None
    """The workers' learning rate, 1/L in the paper; the client_config's ``lr`` by default."""


def qfedavg(config: QFedAvgConfig, setting: Setting) -> Strategy:
    """q-FedAvg (Li et al. 2020, "Fair resource allocation in federated learning", algorithm 2).

    The loss is that of the evaluation Plan on the model as the worker got it; without one, that of the
    training. A loss below zero counts as 1e-10.
    """
    rate = config.lr or setting.client.get("lr")
    if not isinstance(rate, int | float) or rate <= 0:
        raise ConfigError(
            "server_config: strategy: qfedavg needs the workers' learning rate, one number: set 'lr' in the "
            "client_config, or in the strategy"
        )
    lipschitz = 1.0 / rate

    def prepare(update: Update) -> Contribution:
        told = update.summary
        loss = max((told.evaluation.get("loss") or told.metrics["loss"]).value, _LEAST_LOSS)
        norm = lipschitz * setting.norm(update.tensors)
        h = config.q * loss ** (config.q - 1) * norm * norm + lipschitz * loss**config.q
        return Contribution(lipschitz * loss**config.q, {"h": h})

    def step(_model: Tensors, average: Average, state: ServerState) -> tuple[Change, ServerState]:
        return scaled(average, setting, 1.0 / average.numbers["h"]), state

    return Strategy("qfedavg", setting, step, prepare, needs=frozenset({Told.LOSS}))
