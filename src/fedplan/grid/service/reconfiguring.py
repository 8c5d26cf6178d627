"""Which keys of a hosted model's configurations can be changed, and what is checked then."""

import asyncio
from collections.abc import Mapping
from typing import Any

from fedplan.errors import ConfigError
from fedplan.federation.hosting import check_plan, strategy_to_host
from fedplan.federation.schedule import config_at
from fedplan.grid.averaging.apart import Bounds
from fedplan.grid.grid import Grid
from fedplan.grid.records import Process
from fedplan.plan import Limits, Plan
from fedplan.wire.config import ServerConfig, parse_client_config, parse_server_config
from fedplan.wire.messages import PLAN_VARIANTS, SetRequest

CHANGEABLE = frozenset(
    {
        *("min_workers", "max_workers", "pool_selection", "do_not_reuse_workers_until_cycle"),
        *("most_cycles_per_day", "over_selection"),
        *("num_cycles", "cycle_length", "place_timeout", "min_diffs", "max_diffs"),
        *("minimum_upload_speed", "minimum_download_speed"),
        *("weighting", "untold_weight", "max_weight", "max_norm", "metrics"),
        *("best", "stop", "evaluation", "public", "report_formats"),
        *("keep_checkpoints", "keep_diffs"),
    }
)
"""Keys of a server_config that may be changed."""

FIXED = {
    "strategy": "what a strategy remembers from cycle to cycle means nothing to another one",
    "iterative_plan": "the averaging Plan that the model was hosted with is of this kind",
    "secure_aggregation": "workers have agreed to what the grid sees of them, and the scales of their "
    "reports follow from cycle to cycle",
    "privacy": "what its ledger has counted holds for the privacy that the model was hosted with",
    "authentication": "worker ids that were given by it would still open the model",
}
"""Why others may not. A key that is in neither may not be changed either."""

_NAMES = ("name", "version")


async def examined(
    grid: Grid, process: Process, request: SetRequest
) -> tuple[Mapping[str, Any], ServerConfig]:
    """The configurations of a model with some keys changed, checked as at hosting.

    Args:
        grid: the grid.
        process: the model, as it is.
        request: the changes.

    Raises:
        ConfigError: a key cannot be changed, or what comes of it would not be hosted.
    """
    _check_keys(request)
    told = process.server_config.model_dump(exclude_unset=True)
    server = parse_server_config(_changed(told, request.server_config))
    client = _changed(process.client_config, request.client_config)
    hosted = await grid.known.hosted(process.id, process.revision)
    keys = {name: plan.variants[PLAN_VARIANTS[0]].content for name, plan in hosted.plans.items()}
    read = {name: await grid.blobs.get(key) for name, key in keys.items()}
    averaging = None if process.averaging_plan is None else await grid.blobs.get(process.averaging_plan)
    return client, await asyncio.to_thread(
        _checked, process, client, server, read, averaging, Bounds.of(grid.settings).limits
    )


def _check_keys(request: SetRequest) -> None:
    """Refuses what can only be another model.

    Raises:
        ConfigError: names each key, and why it cannot be changed.
    """
    if not request.server_config and not request.client_config:
        raise ConfigError("there is nothing to set: name a key of the server_config or of the client_config")
    faults = [
        f"server_config: '{key}' cannot be changed: {FIXED.get(key, 'it is settled at hosting')}"
        for key in request.server_config
        if key in ServerConfig.model_fields and key not in CHANGEABLE
    ]
    faults += [
        f"client_config: '{key}' cannot be changed: it names the model"
        for key in request.client_config
        if key in _NAMES
    ]
    if faults:
        raise ConfigError(f"{'; '.join(faults)}. Host another version for that")


def _changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with other values; None takes a key away."""
    removed = {key for key, value in changes.items() if value is None}
    return {key: value for key, value in {**config, **changes}.items() if key not in removed}


def _checked(
    process: Process,
    client: Mapping[str, Any],
    server: ServerConfig,
    read: Mapping[str, bytes],
    averaging: bytes | None,
    averaging_limits: Limits,
) -> ServerConfig:
    """The checks of hosting; returns the server_config as it is settled by them."""
    first = config_at(client, 1)
    parse_client_config(first)
    plans = {name: Plan.parse(data) for name, data in read.items()}
    for plan in plans.values():
        check_plan(plan, process.layout, first)
    averages = None if averaging is None else Plan.parse(averaging, averaging_limits)
    return strategy_to_host(plans, process.layout, client, server, averages).setting.server
