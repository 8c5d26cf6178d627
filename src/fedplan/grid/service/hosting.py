"""How a model comes to be hosted: everything is checked before its name is taken."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from fedplan.errors import AggregationError, ConfigError, HostingError, PlanError, WireError
from fedplan.federation import (
    Layout,
    Setting,
    Strategy,
    Task,
    diffs_of_plan,
    layout_of,
    misfit,
    others,
    part_of,
    plan_shapes,
    round_of,
    strategy_of,
)
from fedplan.federation.schedule import config_at
from fedplan.federation.sums import TRAINING
from fedplan.grid.auth import check_authentication
from fedplan.grid.grid import Grid
from fedplan.grid.records import NewPlan, NewProcess, Variant
from fedplan.grid.store import catalogue, rounds
from fedplan.plan import Plan, PlanOutputSpec, split_variants
from fedplan.plan.requirements import check_client_config, check_specs
from fedplan.plan.roles import changing_tensors, check_evaluation, check_private, tensor_roles
from fedplan.wire import State, schema
from fedplan.wire.config import ServerConfig, parse_client_config, parse_server_config
from fedplan.wire.messages import EVALUATION_PLAN, PLAN_VARIANTS, HostTrainingRequest, Success

_LONGEST_NAME = 200


async def host_training(grid: Grid, request: HostTrainingRequest) -> Success:
    """Hosts a model and opens its first cycle.

    Raises:
        HostingError: the model, a Plan or a Protocol cannot be hosted; the message says why.
        ConfigError: a configuration has an unknown key or a wrong value, or lacks one that a Plan takes.
        NameTakenError: the name and version are hosted already.
    """
    examined = await asyncio.to_thread(examine, request)
    name, version = examined.process.name, examined.process.version
    async with grid.store.reading() as db:
        if await catalogue.find_process(db, name, version) is not None:
            raise catalogue.name_taken(name, version)
    first = round_of(examined.strategy).first_stage(Task.TRAINING)
    new = await _store_blobs(grid, examined.process)
    now = grid.clock()
    async with grid.store.writing() as db:
        process_id, checkpoint_id = await catalogue.add_process(db, new, now)
        await rounds.open_cycle(db, process_id, 1, checkpoint_id, now, first.deadline(now))
    grid.closable.set()  # a new deadline to watch
    return Success()


@dataclasses.dataclass(frozen=True, slots=True)
class Examined:
    """A model that may be hosted, and its strategy."""

    process: NewProcess[bytes]
    strategy: Strategy


def examine(request: HostTrainingRequest) -> Examined:
    """Checks everything about a model that is to be hosted.

    Raises:
        HostingError: the model, a Plan or a Protocol cannot be hosted.
        ConfigError: a configuration has an unknown key or a wrong value, or lacks one that a Plan takes.
    """
    first_config = config_at(request.client_config, 1)
    client_config = parse_client_config(first_config)
    server_config = parse_server_config(request.server_config)
    if server_config.authentication is not None:
        check_authentication(server_config.authentication)
    with _about("model"):
        state, layout = _read_model(_unhex(request.model))
    plans, new_plans = dict[str, Plan](), {}
    for name, text in request.plans.items():
        with _about(f"Plan '{name}'"):
            data = _unhex(text)
            plan = _read_plan(name, data, layout, first_config)
            plans[name] = plan
            new_plans[name] = _new_plan(plan, data)
    with _about("model"):
        check_private(plans)
        check_evaluation(plans, EVALUATION_PLAN)
    protocols = {}
    for name, text in request.protocols.items():
        with _about(f"Protocol '{name}'"):
            protocols[name] = _read_protocol(name, _unhex(text))
    averaging_plan, parsed = None, None
    if request.averaging_plan:
        with _about("averaging Plan"):
            averaging_plan = _unhex(request.averaging_plan)
            parsed = Plan.parse(averaging_plan)
            server_config = _check_averaging_plan(parsed, layout, server_config)
    elif server_config.iterative_plan:
        raise ConfigError("server_config: 'iterative_plan' is true, but no averaging Plan was sent")
    changing = changing_tensors(plans.values(), len(layout))
    roles = part_of(tensor_roles(plans.values(), len(layout)), changing)
    evaluates = EVALUATION_PLAN in plans
    if server_config.evaluation is not None and not evaluates:
        raise ConfigError(
            f"server_config: 'evaluation' is set, and there is no Plan '{EVALUATION_PLAN}' to measure with"
        )
    setting = Setting(server_config, request.client_config, layout, changing, roles, evaluates)
    strategy = _strategy(setting, parsed)
    _check_goals(server_config, plans)
    frozen = None
    if changing is not None:
        frozen = state.part(others(len(layout), changing)).serialize()
        state = state.part(changing)
    process = NewProcess(
        client_config.name,
        client_config.version,
        request.client_config,
        server_config,
        layout,
        changing,
        roles,
        model=state.serialize(),
        frozen=frozen,
        averaging_plan=averaging_plan,
        plans=new_plans,
        protocols=protocols,
    )
    return Examined(process, strategy)


def _check_goals(config: ServerConfig, plans: Mapping[str, Plan]) -> None:
    """Checks that the metrics which the model's owner wants to see reached are measured.

    Raises:
        ConfigError: one is not.
    """
    measured = {*config.metrics}
    for name, plan in plans.items():
        prefix = "" if name == EVALUATION_PLAN else TRAINING
        for spec in plan.output_specs or ():
            if spec.type == PlanOutputSpec.TYPE_METRIC:
                measured.add(f"{prefix}{spec.name}")
            elif spec.type == PlanOutputSpec.TYPE_LOSS:
                measured.add(f"{prefix}loss")
    for key, goal in (("best", config.best), ("stop", config.stop)):
        if goal is not None and goal.metric not in measured:
            raise ConfigError(
                f"server_config: '{key}': the Plans measure no '{goal.metric}'; they measure "
                f"{', '.join(sorted(measured)) or 'nothing'}"
            )


def _strategy(setting: Setting, averaging_plan: Plan | None) -> Strategy:
    """A model's strategy.

    Raises:
        ConfigError: it cannot work with the model's cycles; says what could.
    """
    strategy = strategy_of(setting, None if averaging_plan is None else lambda: averaging_plan)
    reporting = round_of(strategy).reporting
    least, most = reporting.needed, reporting.limit
    if least < strategy.least_reports:
        advice = strategy.advice(least)
        raise ConfigError(
            f"server_config: the strategy {strategy.name} needs at least {strategy.least_reports} reports, "
            f"and a cycle may be averaged with {least}: set 'min_diffs' to {strategy.least_reports} or more"
            + (f", or {advice}" if advice else "")
        )
    if most is not None and strategy.most_reports is not None and most > strategy.most_reports:
        raise ConfigError(
            f"server_config: the strategy {strategy.name} takes at most {strategy.most_reports} reports, and "
            f"a cycle may have {most}: set 'max_diffs' to {strategy.most_reports} or less"
        )
    return strategy


@contextlib.contextmanager
def _about(part: str) -> Iterator[None]:
    """Says of which part of the request an error tells."""
    try:
        yield
    except (WireError, PlanError, AggregationError) as error:
        raise HostingError(f"the {part} cannot be hosted: {error}") from error


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise WireError("it is not sent as hexadecimal digits") from None


def _read_model(data: bytes) -> tuple[State, Layout]:
    """The model in the form that all clients read: plain tensors, numbered, with tags."""
    state = State.parse(data)
    if state.places is not None:
        raise WireError("the State holds only a part of a model")
    tensors = state.tensors
    layout = layout_of(tensors)
    reason = misfit(tensors, layout)
    if reason is not None:
        raise AggregationError(reason)
    return State.of(tensors), layout


def _read_plan(name: str, data: bytes, layout: Layout, client_config: Mapping[str, Any]) -> Plan:
    _check_name(name)
    plan = Plan.parse(data)
    check_specs(plan, len(layout))
    plan.check_model(layout)
    check_client_config(plan, client_config)
    return plan


def _new_plan(plan: Plan, data: bytes) -> NewPlan[bytes]:
    errors, missing = plan.variants.errors, plan.variants.missing
    found = {kind: Variant(part, errors.get(kind)) for kind, part in split_variants(data).items()}
    return NewPlan(found, {kind: why for kind, why in missing.items() if kind in PLAN_VARIANTS})


def _read_protocol(name: str, data: bytes) -> bytes:
    _check_name(name)
    schema.Protocol.decode(data)
    return data


def _check_name(name: str) -> None:
    if not 0 < len(name) <= _LONGEST_NAME or "\0" in name:
        raise WireError(f"its name must have 1 to {_LONGEST_NAME} characters, none of them NUL")


def _check_averaging_plan(plan: Plan, layout: Layout, config: ServerConfig) -> ServerConfig:
    """Runs the shapes of diffs through an averaging Plan.

    Returns:
        The server_config, with the number of diffs that a Plan which takes them all at once works with.
    """
    diffs = 1
    if not config.iterative_plan:
        diffs = diffs_of_plan(plan, layout)
        config = _with_diffs(config, diffs)
    outputs = plan.check(plan_shapes(plan, layout, iterative=config.iterative_plan, diffs=diffs)).outputs
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


async def _store_blobs(grid: Grid, new: NewProcess[bytes]) -> NewProcess[str]:
    put = grid.blobs.put
    return NewProcess(
        new.name,
        new.version,
        new.client_config,
        new.server_config,
        new.layout,
        new.changing,
        new.roles,
        model=await put("models", new.model),
        frozen=None if new.frozen is None else await put("models", new.frozen),
        averaging_plan=await put("plans", new.averaging_plan) if new.averaging_plan else None,
        plans={
            name: NewPlan(
                {
                    kind: Variant(await put("plans", variant.content), variant.error)
                    for kind, variant in plan.variants.items()
                },
                plan.missing,
            )
            for name, plan in new.plans.items()
        },
        protocols={name: await put("protocols", data) for name, data in new.protocols.items()},
    )
