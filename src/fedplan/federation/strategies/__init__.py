"""Strategies: the algorithms of federated learning, each a record of functions in one registry."""

from fedplan.federation.strategies import known as _known  # noqa: F401  # registers them
from fedplan.federation.strategies.averaging_plan import (
    average_by_plan,
    diffs_of_plan,
    fold_by_plan,
    plan_shapes,
)
from fedplan.federation.strategies.configuration import StrategyConfig
from fedplan.federation.strategies.measures import Measure, register_measure
from fedplan.federation.strategies.registry import (
    StrategyKind,
    register_strategy,
    strategy_names,
    strategy_of,
)
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import (
    Change,
    Strategy,
    Told,
    as_it_is,
    lacking,
    next_model,
    with_folded,
    with_trained,
)

__all__ = [
    "Change",
    "Measure",
    "Setting",
    "Strategy",
    "StrategyConfig",
    "StrategyKind",
    "Told",
    "as_it_is",
    "average_by_plan",
    "diffs_of_plan",
    "fold_by_plan",
    "lacking",
    "next_model",
    "plan_shapes",
    "register_measure",
    "register_strategy",
    "strategy_names",
    "strategy_of",
    "with_folded",
    "with_trained",
]
