"""How a model comes to be hosted: everything is checked before its name is taken."""

import asyncio
import dataclasses
from collections.abc import Collection

from fedplan.errors import ConfigError, WireError
from fedplan.federation import Strategy, Task, others, round_of
from fedplan.federation.hosting import about_part, check_name, check_plan, checked_model, strategy_to_host
from fedplan.federation.over_selection import DropOut, places_to_give
from fedplan.federation.schedule import config_at
from fedplan.federation.secure.cycles import PROTOCOL_NAME, protocol_of
from fedplan.grid.averaging.apart import Bounds
from fedplan.grid.candidates import NewPlan, NewProcess
from fedplan.grid.grid import Grid
from fedplan.grid.identity.auth import check_authentication
from fedplan.grid.observing.events import Event, Kind
from fedplan.grid.records import Variant
from fedplan.grid.service.events import record
from fedplan.grid.store import catalogue, rounds
from fedplan.grid.store.sealed import sealed_config
from fedplan.plan import Limits, Plan, split_variants
from fedplan.wire import State, schema
from fedplan.wire.config import ServerConfig, parse_client_config, parse_server_config
from fedplan.wire.messages import PLAN_VARIANTS, HostTrainingRequest, Success


async def host_training(grid: Grid, request: HostTrainingRequest) -> Success:
    """Hosts a model and opens its first cycle.

    Raises:
        HostingError: the model, a Plan or a Protocol cannot be hosted; the message says why.
        ConfigError: a configuration has an unknown key or a wrong value, or lacks one that a Plan takes.
        NameTakenError: the name and version are hosted already.
    """
    examined = await asyncio.to_thread(
        examine, request, grid.settings.auth_endpoints, Bounds.of(grid.settings).limits
    )
    name, version = examined.process.name, examined.process.version
    async with grid.store.reading() as db:
        if await catalogue.find_process(db, name, version) is not None:
            raise catalogue.name_taken(name, version)
    _check_certificates(grid, examined.process.server_config)
    _check_privacy(grid, examined.process.server_config)
    first = round_of(examined.strategy).first_stage(Task.TRAINING)
    new = await _store_blobs(grid, examined.process)
    places = places_to_give(examined.process.server_config, DropOut())
    today, deadline = grid.clock.wall(), first.deadline(grid.clock())
    async with grid.store.writing() as db:
        process_id, checkpoint_id = await catalogue.add_process(db, new, today)
        await rounds.open_cycle(
            db, process_id, 1, checkpoint_id, today, deadline, stage=first.name, places=places
        )
        hosted = Event(Kind.HOSTED, "its owner asked for it", name, version, 1)
        await record(grid, db, hosted)
    grid.closable.set()  # a new deadline to watch
    return Success()


@dataclasses.dataclass(frozen=True, slots=True)
class Examined:
    """A model that may be hosted, and its strategy."""

    process: NewProcess[bytes]
    strategy: Strategy


def examine(
    request: HostTrainingRequest, auth_endpoints: Collection[str], averaging_limits: Limits
) -> Examined:
    """Checks everything about a model that is to be hosted.

    Args:
        request: the model.
        auth_endpoints: how the addresses begin that it may have the grid ask about tokens.
        averaging_limits: what its averaging Plan may need.

    Raises:
        HostingError: the model, a Plan or a Protocol cannot be hosted.
        ConfigError: a configuration has an unknown key or a wrong value, or lacks one that a Plan takes.
    """
    first_config = config_at(request.client_config, 1)
    client_config = parse_client_config(first_config)
    server_config = parse_server_config(request.server_config)
    if server_config.authentication is not None:
        check_authentication(server_config.authentication, auth_endpoints)
    with about_part("model"):
        state, layout = checked_model(State.parse(_unhex(request.model)))
    plans, new_plans = dict[str, Plan](), {}
    for name, text in request.plans.items():
        with about_part(f"Plan '{name}'"):
            check_name(name)
            data = _unhex(text)
            plans[name] = Plan.parse(data)
            check_plan(plans[name], layout, first_config)
            new_plans[name] = _new_plan(plans[name], data)
    protocols = {}
    for name, text in request.protocols.items():
        with about_part(f"Protocol '{name}'"):
            protocols[name] = _read_protocol(name, _unhex(text))
    if server_config.secure_aggregation is not None:
        protocols[PROTOCOL_NAME] = protocol_of(server_config.secure_aggregation).encode()
    averaging_plan, parsed = None, None
    if request.averaging_plan:
        with about_part("averaging Plan"):
            averaging_plan = _unhex(request.averaging_plan)
            parsed = Plan.parse(averaging_plan, averaging_limits)
    strategy = strategy_to_host(plans, layout, request.client_config, server_config, parsed)
    setting = strategy.setting
    frozen = None
    if setting.changing is not None:
        frozen = state.part(others(len(layout), setting.changing)).serialize()
        state = state.part(setting.changing)
    process = NewProcess(
        client_config.name,
        client_config.version,
        request.client_config,
        setting.server,
        layout,
        setting.changing,
        setting.roles,
        setting.measured,
        model=state.serialize(),
        frozen=frozen,
        averaging_plan=averaging_plan,
        plans=new_plans,
        protocols=protocols,
    )
    return Examined(process, strategy)


def _check_certificates(grid: Grid, config: ServerConfig) -> None:
    """Checks that the grid is told of certificates, if they are asked for.

    Raises:
        ConfigError: it is not.
    """
    asks = config.authentication is not None and config.authentication.certificate
    if asks and not grid.certificates.are_told:
        raise ConfigError(
            "server_config: 'authentication.certificate' needs a proxy before the grid that verifies "
            "certificates of workers and tells their subjects; have the grid's operator set it up, and name "
            "its header in FEDPLAN_CERTIFICATE_HEADER (docs/operations.md)"
        )


def _check_privacy(grid: Grid, config: ServerConfig) -> None:
    """Checks what differential privacy needs of a grid.

    Raises:
        ConfigError: it cannot be given; says what would do.
    """
    if config.privacy is None:
        return
    if config.authentication is None or not config.authentication.names_workers:
        raise ConfigError(
            "server_config: 'privacy' protects each worker as one person, and without tokens one person may "
            "come as many workers: set 'authentication' with a secret, a pub_key or a jwks_url, whose tokens "
            "name the person in 'sub', or with 'certificate': true"
        )
    if grid.settings.keep_diffs or config.keep_diffs:
        raise ConfigError(
            "server_config: 'privacy' cannot be given where reports are kept, which it is to hide: leave "
            "'keep_diffs' out, and have the grid's operator turn FEDPLAN_KEEP_DIFFS off"
        )


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise WireError("it is not sent as hexadecimal digits") from None


def _new_plan(plan: Plan, data: bytes) -> NewPlan[bytes]:
    errors, missing = plan.variants.errors, plan.variants.missing
    found = {kind: Variant(part, errors.get(kind)) for kind, part in split_variants(data).items()}
    return NewPlan(found, {kind: why for kind, why in missing.items() if kind in PLAN_VARIANTS})


def _read_protocol(name: str, data: bytes) -> bytes:
    check_name(name)
    if name == PROTOCOL_NAME:
        raise WireError("the name is that of this grid's own protocol, which server_config asks for")
    schema.Protocol.decode(data)
    return data


async def _store_blobs(grid: Grid, new: NewProcess[bytes]) -> NewProcess[str]:
    put = grid.keep
    return NewProcess(
        new.name,
        new.version,
        new.client_config,
        sealed_config(new.server_config, grid.seal),
        new.layout,
        new.changing,
        new.roles,
        new.measured,
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
