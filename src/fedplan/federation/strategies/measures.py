"""Metrics that the grid itself measures of each update, named in ``server_config["metrics"]``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fedplan.errors import ConfigError
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.update import Contribution, Update
from fedplan.wire import MetricMean
from fedplan.wire.summary import fault_of_name


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric of updates.

    Attributes:
        name: of the metric.
        of: (update, the model's setting) → its value for one update, a finite number. The grid keeps the
            mean of the values, weighted as the server_config says, also with a strategy in which all updates
            count the same.
    """

    name: str
    of: Callable[[Update, Setting], float]


_MEASURES: dict[str, Measure] = {}


def register_measure(measure: Measure) -> None:
    """Makes a measure known by its name, in this process.

    Raises:
        ConfigError: another one has the name, or it is no name of a metric.
    """
    fault = fault_of_name(measure.name)
    if fault is not None:
        raise ConfigError(fault)
    if _MEASURES.setdefault(measure.name, measure) != measure:
        raise ConfigError(f"there is a measure '{measure.name}' already; give this one another name")


def measured(
    prepare: Callable[[Update], Contribution], names: Sequence[str], setting: Setting
) -> Callable[[Update], Contribution]:
    """Measures each update beside what a strategy makes of it.

    Raises:
        ConfigError: there is no such measure.
    """
    for name in names:
        if name not in _MEASURES:
            known = ", ".join(sorted(_MEASURES))
            raise ConfigError(f"server_config: metrics: there is no '{name}'; there are {known}")
    measures = [_MEASURES[name] for name in names]

    def prepared(update: Update) -> Contribution:
        contribution = prepare(update)
        weight = setting.weighting.weight(update.summary)
        found = {
            measure.name: MetricMean(measure.of(update, setting), 1.0 if weight is None else weight)
            for measure in measures
        }
        return replace(contribution, metrics={**contribution.metrics, **found})

    return prepared


register_measure(Measure("update_norm", lambda update, setting: setting.norm(update.tensors)))
