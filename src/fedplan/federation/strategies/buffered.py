"""FedBuff: asynchronous training."""

from typing import Literal

from fedplan.errors import ConfigError
from fedplan.federation.state import ServerState
from fedplan.federation.strategies.averaging import scaled
from fedplan.federation.strategies.configuration import Positive, StrategyConfig
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import Change, Strategy
from fedplan.federation.sums import Average
from fedplan.federation.tensors import Tensors
from fedplan.federation.update import Contribution, Update
from fedplan.wire.amounts import Count

_NOT_BESIDE = ("min_diffs", "max_diffs", "min_workers", "cycle_length")


class FedBuffConfig(StrategyConfig):
    """Settings of FedBuff."""

    name: Literal["fedbuff"] = "fedbuff"
    k: Count = 10
    """Reports that make the next checkpoint: K in the paper, which has 10."""
    staleness: Count = 20
    """A report is taken until the model has had so many checkpoints since the worker received it."""
    lr: Positive = 1.0
    """The server's learning rate."""


def fedbuff(config: FedBuffConfig, setting: Setting) -> Strategy:
    """FedBuff (Nguyen et al. 2022): workers train at their own pace; each K reports make a checkpoint.

    A report that is s checkpoints late is multiplied by (1 + s)^−½. The mean is over all K reports.
    """
    for key in _NOT_BESIDE:
        if getattr(setting.server, key) is not None:
            raise ConfigError(
                f"server_config: '{key}' stands beside the strategy fedbuff, whose only threshold is its k "
                f"({config.k} reports): leave '{key}' out"
            )

    def prepare(update: Update) -> Contribution:
        return Contribution((1.0 + update.staleness) ** -0.5)

    def step(_model: Tensors, average: Average, state: ServerState) -> tuple[Change, ServerState]:
        return scaled(average, setting, config.lr), state

    return Strategy(
        "fedbuff",
        setting,
        step,
        prepare,
        closes_at=config.k,
        least_reports=config.k,
        staleness=config.staleness,
    )
