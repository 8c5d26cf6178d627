"""Which models can be trained with secure aggregation: what is refused when a model is hosted, and why."""

from collections.abc import Iterator, Mapping

from fedplan.errors import ConfigError, SecureAggregationError, SecureMessageError
from fedplan.federation.secure.cycles import figures_of, parameters_of
from fedplan.federation.secure.parameters import Trust, ring_bits
from fedplan.federation.secure.ring import MOST_BITS
from fedplan.federation.secure.terms import Expectations
from fedplan.federation.strategies import Strategy, as_it_is
from fedplan.plan.signature import Role
from fedplan.wire.config import ServerConfig
from fedplan.wire.secure import SecureAggregationConfig

SUMMED = frozenset({"fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi"})
"""The strategies that need the average of the reports and nothing else."""

_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})

WORKING_KEYS = frozenset(
    {
        "authentication",
        "best",
        "do_not_reuse_workers_until_cycle",
        "keep_checkpoints",
        "max_weight",
        "minimum_download_speed",
        "minimum_upload_speed",
        "most_cycles_per_day",
        "num_cycles",
        "pool_selection",
        "public",
        "stop",
        "strategy",
        "weighting",
    }
)
"""The keys of a server_config that go with secure aggregation, of `strategy` the values in `SUMMED`."""

OWN_NUMBERS = (
    *("min_workers", "max_workers", "min_diffs", "max_diffs", "over_selection"),
    *("cycle_length", "place_timeout"),
)
"""Keys that say when a cycle takes workers and ends; a secure round has stages of its own."""

REFUSED_KEYS: Mapping[str, str] = {
    "iterative_plan": "'iterative_plan' is of averaging Plans, which read single reports",
    "keep_diffs": "'keep_diffs': reports are under masks, and of no use after their cycle: leave it out",
    "max_norm": (
        "'max_norm' is measured on single reports, which the grid does not see: leave it out ('clip' of "
        "'secure_aggregation' bounds each number of a report)"
    ),
    "report_formats": (
        "'report_formats' are other forms of a report than the one that can be added up under masks, and the "
        "indices of topk would tell of the data: leave them out ('bits' makes reports smaller)"
    ),
    "metrics": (
        "'metrics' are measured by the grid on single reports, which it does not see: leave them out"
    ),
    "evaluation": (
        "'evaluation' has workers that only measure, whose numbers the grid would see one by one: leave it "
        "out. With an evaluation Plan those who train measure too, and the sum has that"
    ),
    "untold_weight": "'untold_weight' cannot be: each worker tells its own weight, under a mask",
    "privacy": (
        "'privacy' has the grid clip each report and add noise, and under masks it sees no report: leave one "
        "of the two out"
    ),
}
"""Keys that cannot be set beside secure aggregation, and why."""


def check_secure(strategy: Strategy) -> None:
    """Refuses what goes not together with secure aggregation, if that is asked for.

    Raises:
        ConfigError: something does not; the message says what, why and what to do.
    """
    secure = strategy.setting.server.secure_aggregation
    fault = None if secure is None else next(_faults(strategy, secure), None)
    if fault is not None:
        raise ConfigError(f"server_config: 'secure_aggregation': {fault}")


def _faults(strategy: Strategy, secure: SecureAggregationConfig) -> Iterator[str]:
    if Trust(secure.level) is Trust.LYING:
        yield (
            "the level 'lying' needs a directory in which workers find each other's registered keys without "
            "this grid, and there is none yet: use 'honest'"
        )
    yield from _faults_of_strategy(strategy)
    yield from _faults_of_config(strategy.setting.server)
    yield from _faults_of_tensors(strategy)
    yield from _faults_of_numbers(strategy, secure)


def _faults_of_strategy(strategy: Strategy) -> Iterator[str]:
    allowed = ", ".join(sorted(SUMMED))
    if strategy.fold is not None:
        yield (
            "an averaging Plan reads single reports, which the grid does not see then: leave the Plan out, "
            f"and use one of the strategies {allowed}"
        )
    elif strategy.combine is not None:
        yield (
            f"the robust rule {strategy.name} compares single reports, which the grid does not see then: use "
            f"one of {allowed}, or leave 'secure_aggregation' out"
        )
    elif strategy.name not in SUMMED:
        yield (
            f"the strategy {strategy.name} needs more than the average of the reports, or is not known to "
            f"need only that: use one of {allowed}"
        )
    elif strategy.prepare is not as_it_is and not strategy.setting.server.metrics:
        yield (
            "'clip_norm' bounds single reports, which the grid does not see: leave it out ('clip' bounds "
            "each number of a report)"
        )


def _faults_of_config(config: ServerConfig) -> Iterator[str]:
    yield from (why for key, why in REFUSED_KEYS.items() if getattr(config, key))
    own = [key for key in OWN_NUMBERS if key in config.model_fields_set]
    if own:
        yield (
            f"'{own[0]}' says nothing of a secure round: 'workers', 'fewest', 'gather_length', "
            "'training_length' and 'stage_length' of 'secure_aggregation' are in its place"
        )
    if config.weighting == "samples" and config.max_weight is None:
        yield (
            "a report's weight needs a bound that is known before: set 'max_weight' to the most samples that "
            "one worker may count for, or 'weighting' to 'uniform'"
        )


def _faults_of_tensors(strategy: Strategy) -> Iterator[str]:
    setting = strategy.setting
    if any(role is not Role.TRAINED for role in setting.roles):
        yield (
            "the model has running statistics or counters, as of batch normalisation, whose average must "
            "stay between the least and the most of single reports: use group or layer normalisation"
        )
    other = sorted({dtype for _, dtype in setting.changing_layout} - _FLOATS)
    if other:
        yield f"tensors of {', '.join(other)} are trained, and only floating-point ones can be scaled"
    goals = (setting.server.best, setting.server.stop)
    if setting.measured is None and any(goal is not None for goal in goals):
        yield (
            "'best' and 'stop' need a metric whose name is known before, and the Plans do not say what they "
            "return: make them with training_plan"
        )


def _faults_of_numbers(strategy: Strategy, secure: SecureAggregationConfig) -> Iterator[str]:
    try:
        for workers in (secure.workers, secure.least):
            Expectations().check_parameters(parameters_of(secure, workers))
    except SecureMessageError as error:
        yield f"no worker would take part: {error}. Raise 'workers' and 'corrupt', or lower 'dropout'"
    except SecureAggregationError as error:
        yield str(error)
    bits = ring_bits(secure.bits, secure.workers)
    if bits > MOST_BITS:
        yield f"{secure.bits} bits of {secure.workers} workers add up to {bits}, and {MOST_BITS} are the most"
    for figure in figures_of(strategy.setting, secure.workers):
        fault = figure.fault(secure.workers)
        if fault is not None:
            yield f"{fault}: lower 'max_weight' or 'most_metric'"
