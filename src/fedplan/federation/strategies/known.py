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
from fedplan.federation.strategies.robust import (
    BulyanConfig,
    CentredClippingConfig,
    GeometricMedianConfig,
    KrumConfig,
    MedianConfig,
    MultiKrumConfig,
    TrimmedMeanConfig,
    robust_strategy,
)

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
    StrategyKind("median", MedianConfig, robust_strategy),
    StrategyKind("trimmed_mean", TrimmedMeanConfig, robust_strategy),
    StrategyKind("krum", KrumConfig, robust_strategy),
    StrategyKind("multi_krum", MultiKrumConfig, robust_strategy),
    StrategyKind("bulyan", BulyanConfig, robust_strategy),
    StrategyKind("centred_clipping", CentredClippingConfig, robust_strategy),
    StrategyKind("geometric_median", GeometricMedianConfig, robust_strategy),
)

for _kind in KINDS:
    register_strategy(_kind)
