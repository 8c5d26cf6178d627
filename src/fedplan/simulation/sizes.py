"""How many rounds are simulated, and how many clients take part in each."""

from fedplan.client.counts import positive_integer
from fedplan.errors import ConfigError
from fedplan.federation import Round, Stage, Strategy, round_of
from fedplan.simulation.deployment import Deployment


def rounds_of(told: int | None, deployment: Deployment) -> int:
    """How many cycles of training are simulated.

    Raises:
        ConfigError: nobody says it, or a grid would have fewer.
    """
    cycles = deployment.server_config.num_cycles
    if told is None:
        if cycles is None:
            raise ConfigError("how many rounds? Pass rounds=100, or put num_cycles into the server_config")
        return cycles
    rounds = positive_integer(told, "rounds")
    if cycles is not None and rounds > cycles:
        raise ConfigError(
            f"rounds is {rounds}, and the server_config's num_cycles is {cycles}, after which a grid ends "
            "the training: leave one of them out"
        )
    return rounds


def cohort_of(told: int | None, strategy: Strategy, population: int) -> int:
    """How many clients train in a cycle.

    Raises:
        ConfigError: a grid would take fewer, or its cycles would need more.
    """
    config, stage = strategy.setting.server, _joining(round_of(strategy))
    if told is None:
        usual = config.places or stage.limit or population
        cohort = min(usual, population)
    else:
        cohort = positive_integer(told, "cohort")
    if cohort > population:
        raise ConfigError(f"the cohort is {cohort}, and there are only {population} clients")
    if config.places is not None and cohort > config.places:
        key = "max_workers" if config.secure_aggregation is None else "secure_aggregation.workers"
        raise ConfigError(
            f"the cohort is {cohort}, and the server_config's {key} is {config.places}: a grid "
            "would take no more. Set one of them to the other"
        )
    least = max(config.min_workers or 1, 1 if strategy.staleness is not None else stage.needed)
    if cohort < least:
        raise ConfigError(
            f"the cohort is {cohort}, and with this server_config a cycle needs {least} clients: a grid "
            "would wait for ever. Pass a larger cohort, or set min_diffs, max_diffs or min_workers to less"
        )
    return cohort


def _joining(round: Round) -> Stage:
    """The stage that says how many workers a cycle of training needs."""
    return round.stages[0] if round.is_secure else round.reporting
