"""The strategies that fedplan has: one row each."""

from typing import Any

from fedplan.federation.strategies.adaptive import (
    FedAdagradConfig,
    FedAdamConfig,
    FedYogiConfig,
    fedadagrad,
    fedadam,
    fedyogi,
)
from fedplan.federation.strategies.averaging import FedAvgConfig, FedAvgMConfig, fedavg, fedavgm
from fedplan.federation.strategies.buffered import FedBuffConfig, fedbuff
from fedplan.federation.strategies.controlled import FedDynConfig, ScaffoldConfig, feddyn, scaffold
from fedplan.federation.strategies.fair import QFedAvgConfig, qfedavg
from fedplan.federation.strategies.normalised import FedNovaConfig, fednova
from fedplan.federation.strategies.registry import StrategyKind, register_strategy
from fedplan.federation.strategies.robust import RULES, by_rule

KINDS: tuple[StrategyKind[Any], ...] = (
    StrategyKind("fedavg", FedAvgConfig, fedavg),
    StrategyKind("fedavgm", FedAvgMConfig, fedavgm),
    StrategyKind("fedadagrad", FedAdagradConfig, fedadagrad),
    StrategyKind("fedadam", FedAdamConfig, fedadam),
    StrategyKind("fedyogi", FedYogiConfig, fedyogi),
    StrategyKind("fednova", FedNovaConfig, fednova),
    StrategyKind("scaffold", ScaffoldConfig, scaffold),
    StrategyKind("feddyn", FedDynConfig, feddyn),
    StrategyKind("qfedavg", QFedAvgConfig, qfedavg),
    StrategyKind("fedbuff", FedBuffConfig, fedbuff),
    *(StrategyKind(config.model_fields["name"].default, config, by_rule) for config in RULES),
)

for _kind in KINDS:
    register_strategy(_kind)
