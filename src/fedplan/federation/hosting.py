"""What is checked of a model before it is trained, by a grid that is to host it and by a simulation alike."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from fedplan.errors import AggregationError, ConfigError, HostingError, PlanError, WireError
from fedplan.federation.round import round_of
from fedplan.federation.schedule import check_schedules
from fedplan.federation.secure.hosting import check_secure
from fedplan.federation.strategies import Setting, Strategy, diffs_of_plan, plan_shapes, strategy_of
from fedplan.federation.sums import TRAINING
from fedplan.federation.tensors import Layout, layout_of, misfit, part_of, reach_of
from fedplan.plan import Plan, PlanOutputSpec
from fedplan.plan.remembered import Remembered, remembered_by
from fedplan.plan.requirements import check_client_config, check_specs
from fedplan.plan.roles import changing_tensors, check_evaluation, check_private, tensor_roles
from fedplan.plan.signature import Role
from fedplan.wire import State
from fedplan.wire.config import MOST_CHARACTERS, ServerConfig, parse_server_config, printable
from fedplan.wire.messages import EVALUATION_PLAN


@contextlib.contextmanager
def about_part(part: str) -> Iterator[None]:
    """Names the part of a model in the errors that checking it raises.

    Raises:
        HostingError: the part is wrong.
    """
    try:
        yield
    except (WireError, PlanError, AggregationError) as error:
        raise HostingError(f"the {part} cannot be hosted: {error}") from error


def checked_model(state: State) -> tuple[State, Layout]:
    """The model in the form that all clients read: plain tensors, numbered, with tags.

    Raises:
        WireError: it is damaged, or only a part of a model.
        AggregationError: it cannot be averaged.
    """
    if state.places is not None:
        raise WireError("the State holds only a part of a model")
    tensors = state.tensors
    layout = layout_of(tensors)
    reason = misfit(tensors, layout, reach_of(tensors))
    if reason is not None:
        raise AggregationError(reason)
    return State.of(tensors), layout


def check_name(name: str) -> None:
    """Checks the name of a Plan or a Protocol.

    Raises:
        WireError: it cannot be one.
    """
    if not 0 < len(name) <= MOST_CHARACTERS:
        raise WireError(f"its name must have 1 to {MOST_CHARACTERS} characters")
    try:
        printable(name)
    except ValueError as error:
        raise WireError(f"its name cannot be used: {error}") from None


def check_plan(plan: Plan, layout: Layout, first_config: Mapping[str, Any]) -> None:
    """Checks that a Plan can train or measure a model.

    Args:
        plan: what workers run.
        layout: the model's.
        first_config: the client_config of the first cycle.

    Raises:
        PlanError: it cannot.
        ConfigError: the client_config lacks what it takes.
    """
    check_specs(plan, len(layout))
    plan.check_model(layout)
    check_client_config(plan, first_config)


def strategy_to_host(
    plans: Mapping[str, Plan],
    layout: Layout,
    client_config: Mapping[str, Any],
    server_config: ServerConfig,
    averaging_plan: Plan | None = None,
) -> Strategy:
    """The strategy of a model, whose setting holds all that is settled when the model is hosted.

    Args:
        plans: what workers run, by name; each passed `check_plan`.
        layout: the model's.
        client_config: as the model's owner wrote it.
        server_config: as its owner wrote it; where an averaging Plan settles the number of diffs, the
            setting has it.
        averaging_plan: how the reports are averaged, where a Plan says it; its limits bound all of a cycle.

    Raises:
        HostingError: the Plans do not fit together, or the averaging Plan does not fit the model.
        ConfigError: the server_config asks for what these Plans cannot give.
    """
    check_schedules(client_config, server_config.num_cycles)
    with about_part("model"):
        check_private(plans)
        check_evaluation(plans, EVALUATION_PLAN)
    if averaging_plan is not None:
        with about_part("averaging Plan"):
            server_config = _check_averaging_plan(averaging_plan, layout, server_config)
    elif server_config.iterative_plan:
        raise ConfigError("server_config: 'iterative_plan' is true, but no averaging Plan was sent")
    evaluates = EVALUATION_PLAN in plans
    if server_config.evaluation is not None and not evaluates:
        raise ConfigError(
            f"server_config: 'evaluation' is set, and there is no Plan '{EVALUATION_PLAN}' to measure with"
        )
    changing = changing_tensors(plans.values(), len(layout))
    roles = part_of(tensor_roles(plans.values(), len(layout)), changing)
    measured = _measured(plans)
    says_all = all(plan.output_specs is not None for plan in plans.values())
    known = frozenset(measured) if says_all else None
    setting = Setting(server_config, client_config, layout, changing, roles, evaluates, known)
    strategy = strategy_of(setting, None if averaging_plan is None else lambda: averaging_plan)
    check_secure(strategy)
    _check_remembered(strategy, remembered_by(plans.values()))
    _check_late_reports(strategy)
    _check_reports(strategy)
    _check_metrics(server_config, measured)
    _check_weights(server_config)
    return strategy


def _check_late_reports(strategy: Strategy) -> None:
    """Checks that the report of an earlier checkpoint can be subtracted from a later one.

    Raises:
        ConfigError: the model has running statistics; says what to do about it.
    """
    if strategy.staleness is not None and (places := strategy.setting.places(Role.AVERAGED)):
        changing = strategy.setting.changing
        tensors = ", ".join(str(place if changing is None else changing[place]) for place in places)
        raise ConfigError(
            f"server_config: the strategy {strategy.name} takes reports that come late, and the model has "
            f"running statistics, as of batch norm (its tensors {tensors}, counted from 0): what a late "
            "report says of them does not fit a newer checkpoint, whose variances would become negative. Use "
            "group or layer normalisation, or make the Plan with `private`, such as "
            "private=['*running_mean', '*running_var'], so that each worker keeps its own statistics"
        )


_TRAINED_WITH = {
    Remembered.CONTROL_VARIATES: "{'name': 'scaffold', 'population': …}",
    Remembered.GRADIENTS: "{'name': 'feddyn', 'population': …, 'alpha': …}",
}
"""The strategy of each."""


def _check_remembered(strategy: Strategy, found: Remembered | None) -> None:
    """Checks that the workers remember what the strategy reckons with.

    Raises:
        ConfigError: they do not, or they remember what it knows nothing of.
    """
    wanted = strategy.remembers
    if wanted is not None and found is not wanted:
        raise ConfigError(
            f"server_config: strategy: {strategy.name} needs a model whose workers remember how they trained "
            f"it: host fedplan.{wanted}(model), and make the Plan with it"
        )
    if found is not None and found is not wanted:
        raise ConfigError(
            f"server_config: the model is a fedplan.{found}, and the strategy {strategy.name} knows nothing "
            f"of what its workers remember: set 'strategy' to {_TRAINED_WITH[found]}, or host the module "
            f"without {found}, with a Plan that is made of it"
        )


def _check_weights(config: ServerConfig) -> None:
    """Checks that a weight which is set has an effect.

    Raises:
        ConfigError: it has none.
    """
    untold, most = config.untold_weight, config.max_weight
    if untold is not None and config.weighting == "uniform":
        raise ConfigError(
            "server_config: 'untold_weight' has no effect where 'weighting' is \"uniform\", for all reports "
            "count the same then: leave one of them out"
        )
    if untold is not None and most is not None and untold > most:
        raise ConfigError(
            f"server_config: 'untold_weight' ({untold:g}) is more than 'max_weight' ({most:g}), and no "
            "report counts more than that: lower one or raise the other"
        )


def _check_reports(strategy: Strategy) -> None:
    """Checks that the strategy can work with as many reports as a cycle may have.

    Raises:
        ConfigError: it cannot; says what could.
    """
    reporting = round_of(strategy).reporting
    least, most = reporting.needed, reporting.limit
    if least < strategy.least_reports:
        advice = strategy.advice(least)
        raise ConfigError(
            f"server_config: the strategy {strategy.name} needs at least {strategy.least_reports} reports, "
            f"and a cycle may be averaged with {least}: set 'min_diffs' to {strategy.least_reports} or more"
            + (f", or {advice}" if advice else "")
        )
    expected = max(least, most or 0)
    if strategy.population is not None and expected > strategy.population:
        raise ConfigError(
            f"server_config: strategy: 'population' is {strategy.population}, and a cycle may have "
            f"{expected} reports: set 'population' to the number of workers in all, {expected} or more, or "
            "'min_diffs' and 'max_diffs' to fewer"
        )
    if most is not None and strategy.most_reports is not None and most > strategy.most_reports:
        raise ConfigError(
            f"server_config: the strategy {strategy.name} takes at most {strategy.most_reports} reports, and "
            f"a cycle may have {most}: set 'max_diffs' to {strategy.most_reports} or less"
        )
    places = strategy.setting.server.places
    if places is not None and least > places:
        raise ConfigError(
            f"server_config: the strategy {strategy.name} needs {least} reports, and 'max_workers' "
            f"({places}) lets no more workers into a cycle, so it would never end: set 'max_workers' to "
            f"{least} or more, leave it out, or have the strategy need fewer reports"
        )


def _measured(plans: Mapping[str, Plan]) -> dict[str, str]:
    """The metrics that the Plans say they return, by their names in a history; for each its Plan."""
    found = dict[str, str]()
    for name, plan in plans.items():
        prefix = "" if name == EVALUATION_PLAN else TRAINING
        for spec in plan.output_specs or ():
            if spec.type == PlanOutputSpec.TYPE_METRIC:
                found[f"{prefix}{spec.name}"] = name
            elif spec.type == PlanOutputSpec.TYPE_LOSS:
                found[f"{prefix}loss"] = name
    return found


def _check_metrics(config: ServerConfig, measured: Mapping[str, str]) -> None:
    """Checks that no two metrics have one name, and that those are measured which are to reach something.

    Args:
        config: names the grid's own metrics, and the goals.
        measured: see `_measured`.

    Raises:
        ConfigError: it is not so.
    """
    for name, plan in measured.items():
        is_training = plan != EVALUATION_PLAN
        if name in config.metrics or (name.startswith(TRAINING) and not is_training):
            whose = "measured by the grid" if name in config.metrics else "measured in a training"
            raise ConfigError(
                f"the Plan '{plan}' has a metric that a history would call '{name}', as what is {whose}: "
                "give it another name"
            )
    known = {*config.metrics, *measured}
    for key, goal in (("best", config.best), ("stop", config.stop)):
        if goal is not None and goal.metric not in known:
            raise ConfigError(
                f"server_config: '{key}': the Plans measure no '{goal.metric}'; they measure "
                f"{', '.join(sorted(known)) or 'nothing'}"
            )


def _check_averaging_plan(plan: Plan, layout: Layout, config: ServerConfig) -> ServerConfig:
    """Runs the shapes of diffs through an averaging Plan.

    Returns:
        The server_config, with the number of diffs that a Plan which takes them all at once works with.

    Raises:
        PlanLimitError: it needs more than its limits allow, in all of its calls of a cycle.
        AggregationError: it does not return what the model has.
    """
    diffs, calls = 1, 1
    if config.iterative_plan:
        reports = min((n for n in (config.max_diffs, config.max_workers) if n is not None), default=1)
        calls = max(reports - 1, 1)
    else:
        diffs = diffs_of_plan(plan, layout)
        config = _with_diffs(config, diffs)
    limits = dataclasses.replace(plan.limits, max_work=plan.limits.max_work // calls)
    shapes = plan_shapes(plan, layout, iterative=config.iterative_plan, diffs=diffs)
    outputs = plan.check(shapes, limits).outputs
    if tuple(outputs) != layout:
        raise AggregationError(f"it returns {list(outputs)}, the model has {list(layout)}")
    return config


def _with_diffs(config: ServerConfig, diffs: int) -> ServerConfig:
    """A Plan that was traced for K diffs works with K: each cycle then closes with exactly K."""
    for key in ("min_diffs", "max_diffs"):
        if getattr(config, key) not in (None, diffs):
            raise ConfigError(
                f"server_config: '{key}' is {getattr(config, key)}, but the averaging Plan was traced for "
                f"{diffs} diffs and works with no other number; set min_diffs and max_diffs to {diffs}, or "
                "host an iterative Plan"
            )
    settled = config.model_dump(exclude_unset=True) | {"min_diffs": diffs, "max_diffs": diffs}
    return parse_server_config(settled)
