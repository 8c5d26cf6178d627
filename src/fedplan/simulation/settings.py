"""Settings that a sweep tries, by name, and where they belong."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedplan.errors import ConfigError
from fedplan.wire.config import ClientConfig, ServerConfig

OPTIONS = ("cohort", "rounds", "availability", "behaviour", "report_format", "population")
"""Arguments of `simulate` that may be swept."""

_STRATEGY = "strategy."
"""How the names of a strategy's own settings begin."""


def check_grid(grid: Any, client_config: Mapping[str, Any]) -> None:
    """Checks the names and the values of a sweep's settings.

    Args:
        grid: by name, the values of each setting.
        client_config: whose keys may be swept.

    Raises:
        ConfigError: there is no such setting, or it has no values.
    """
    if not isinstance(grid, Mapping) or not grid:
        raise ConfigError('grid is a dict of values by name, such as {"lr": [0.03, 0.1], "cohort": [10, 50]}')
    for name, values in grid.items():
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise ConfigError(f"grid: '{name}' is {values!r}; it must be a list of values that are tried")
        known = (*OPTIONS, *ServerConfig.model_fields, *client_config, *ClientConfig.model_fields)
        if name not in known and not name.startswith(_STRATEGY):
            raise ConfigError(
                f"grid: there is no setting '{name}'. It may be a key of the client_config that is there "
                f"({', '.join(client_config)}), a key of the server_config, a setting of the strategy "
                f"(strategy.lr), or one of {', '.join(OPTIONS)}"
            )


def applied(
    settings: Mapping[str, Any], client_config: Mapping[str, Any], server_config: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The client_config, the server_config and further arguments of `simulate` with some settings."""
    client, server, options = dict(client_config), dict(server_config), dict[str, Any]()
    for name, value in sorted(settings.items()):  # "strategy" before what is set of it
        if name in OPTIONS:
            options[name] = value
        elif name.startswith(_STRATEGY):
            named = server.get("strategy") or "fedavg"
            strategy = dict(named) if isinstance(named, Mapping) else {"name": named}
            server["strategy"] = {**strategy, name.removeprefix(_STRATEGY): value}
        elif name in ServerConfig.model_fields:
            server[name] = value
        else:
            client[name] = value
    return client, server, options
