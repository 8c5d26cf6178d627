"""The strategies by name, and the only place that reads from a server_config which one a model has."""

import functools
import importlib.metadata
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from fedplan.errors import ConfigError
from fedplan.federation.strategies.averaging_plan import averaging_plan_strategy
from fedplan.federation.strategies.configuration import StrategyConfig
from fedplan.federation.strategies.measures import measured
from fedplan.federation.strategies.private import private_strategy
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import Strategy, as_it_is
from fedplan.federation.tensors import to_float64
from fedplan.federation.update import Contribution, Update
from fedplan.plan import Plan
from fedplan.text import did_you_mean
from fedplan.wire import WireTensor
from fedplan.wire.config import explain

logger = logging.getLogger(__name__)

C = TypeVar("C", bound=StrategyConfig)

ENTRY_POINTS = "fedplan.strategies"
"""Packages may have entry points of this group: each is a `StrategyKind`, or a module that registers some."""

DEFAULT = "fedavg"


@dataclass(frozen=True, slots=True)
class StrategyKind(Generic[C]):
    """One row of the registry.

    Attributes:
        name: as it stands in ``server_config["strategy"]["name"]``.
        config: its settings, with their defaults.
        make: (settings, what it is made for) → the strategy. It raises a `ConfigError` for settings that
            cannot work, which says what could.
    """

    name: str
    config: type[C]
    make: Callable[[C, Setting], Strategy]


_KINDS: dict[str, StrategyKind[Any]] = {}


def register_strategy(kind: StrategyKind[Any]) -> None:
    """Makes a strategy known by its name, in this process. A grid and its replicas all have to know it.

    Raises:
        ConfigError: another one has the name.
    """
    if _KINDS.setdefault(kind.name, kind) != kind:
        raise ConfigError(f"there is a strategy '{kind.name}' already; give this one another name")


def strategy_names() -> tuple[str, ...]:
    """The names of all strategies that are known."""
    broken_plugins()
    return tuple(sorted(_KINDS))


def strategy_of(setting: Setting, averaging_plan: Callable[[], Plan] | None = None) -> Strategy:
    """The strategy of a model.

    Args:
        setting: the model and its configurations.
        averaging_plan: loads the one that was hosted with it, if there is one.

    Raises:
        ConfigError: there is no such strategy, or its settings cannot work; says what would.
    """
    server = setting.server
    told = server.strategy
    if averaging_plan is not None:
        if told is not None:
            raise ConfigError(
                "server_config: the model has an averaging Plan, which is its strategy: leave 'strategy' "
                "out, or host the model without the Plan"
            )
        made = averaging_plan_strategy(averaging_plan, setting)
    else:
        wanted: Mapping[str, Any] = {"name": told or DEFAULT} if not isinstance(told, dict) else told
        kind = _kind(wanted.get("name"))
        try:
            config = kind.config.model_validate(wanted)
        except ValidationError as error:
            raise ConfigError(f"server_config: strategy: {explain(error, kind.config)}") from None
        made = kind.make(config, setting)
        if config.clip_norm is not None:
            made = replace(made, prepare=_clipped(made.prepare, config.clip_norm, setting))
    if server.metrics:
        unloaded = _told(broken_plugins())  # these may have brought measures
        try:
            made = replace(made, prepare=measured(made.prepare, server.metrics, setting))
        except ConfigError as error:
            raise ConfigError(f"{error}{unloaded}") from None
    return made if server.privacy is None else private_strategy(made, server.privacy)


def _kind(name: object) -> StrategyKind[Any]:
    known = strategy_names()
    if name is None:
        raise ConfigError(
            "server_config: strategy: it is a name, or an object with 'name' and settings, and has no "
            f"'name'; there are {', '.join(known)}"
        )
    if not isinstance(name, str) or name not in _KINDS:
        hint = (
            '. FedProx works on the worker\'s side: trace the Plan with `training_plan(…, proximal="mu")`'
            if name == "fedprox"
            else ""
        )
        raise ConfigError(
            f"server_config: strategy: there is none with the name {name!r}; there are "
            f"{', '.join(known)}{hint or did_you_mean(str(name), known)}{_told(broken_plugins())}"
        )
    return _KINDS[name]


def _clipped(
    prepare: Callable[[Update], Contribution], most: float, setting: Setting
) -> Callable[[Update], Contribution]:
    """Bounds the norm of what an update adds. A strategy that looks at the diff sees it as it is added."""

    def clipped(update: Update) -> Contribution:
        norm = setting.norm(update.tensors)
        if norm <= most:
            return prepare(update)
        factor = most / norm
        contribution = prepare(update if prepare is as_it_is else _scaled(update, factor, setting))
        return replace(contribution, factor=contribution.factor * factor)

    return clipped


def _scaled(update: Update, factor: float, setting: Setting) -> Update:
    """An update whose trained tensors are multiplied, in float64."""
    tensors = list(update.tensors)
    for place in setting.trained:
        tensors[place] = WireTensor(to_float64(tensors[place]) * factor, "float64")
    return replace(update, tensors=tuple(tensors), reach=None)


@functools.cache
def broken_plugins() -> tuple[str, ...]:
    """Loads the entry points, once for this process; says which of them cannot be loaded, and why.

    A model that needs none of these goes on.
    """
    broken = []
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            found = entry.load()
            if isinstance(found, StrategyKind):
                register_strategy(found)
        except Exception as error:  # noqa: BLE001  # whatever a package raises when it is imported
            broken.append(f"'{entry.name}' ({entry.value}): {type(error).__name__}: {error}")
            logger.warning("an entry point of '%s' cannot be loaded: %s", ENTRY_POINTS, broken[-1])
    return tuple(broken)


def _told(broken: Sequence[str]) -> str:
    """The end of an error that may come of plugins which cannot be loaded."""
    if not broken:
        return ""
    return (
        f". Of the entry points '{ENTRY_POINTS}' these cannot be loaded: {'; '.join(broken)}. Mend or remove "
        "their packages, and start again"
    )
