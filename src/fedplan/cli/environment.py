"""The environment variables that fedplan reads; one that it would not read is most likely misspelt."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fedplan.errors import SettingsError
from fedplan.text import nearest

if TYPE_CHECKING:
    from fedplan.grid import Settings

PREFIX = "FEDPLAN_"


def check_environment(root: Any) -> None:
    """Refuses variables that no command and no grid reads.

    Args:
        root: the command whose subcommands' variables are known, a `click.Group`.

    Raises:
        SettingsError: there are some; names each, and the nearest that is read.
    """
    of_commands = set(_variables(root))
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in of_commands)
    if not unknown:
        return
    try:
        from fedplan.grid.settings import Settings
    except ModuleNotFoundError:  # an installation for workers: what a grid reads is not known here
        return
    known = of_commands | {PREFIX + name.upper() for name in Settings.model_fields}
    wrong = [_told(name, known) for name in unknown if name not in known]
    if wrong:
        raise SettingsError(f"{'; '.join(wrong)} Unset it, or mend its name; docs/grid.md lists the settings")


def _variables(command: Any) -> Iterator[str]:
    """The variables of a command's options, and of its subcommands'."""
    for parameter in command.params:
        named = parameter.envvar or ()
        yield from (named,) if isinstance(named, str) else named
    for child in getattr(command, "commands", {}).values():
        yield from _variables(child)


def _told(name: str, known: set[str]) -> str:
    names = [one.removeprefix(PREFIX) for one in known]
    near = nearest(name.removeprefix(PREFIX), names)
    return f"{name} is no setting of fedplan" + (f"; did you mean {PREFIX}{near}?" if near else ".")


def read_settings(given: dict[str, Any]) -> "Settings":
    """The settings from the environment, and what the command line says, where that is not None.

    Raises:
        SettingsError: a value cannot be used; the message names the environment variable.
    """
    from pydantic import ValidationError

    from fedplan.grid import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = (
            f"FEDPLAN_{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        raise SettingsError("; ".join(faults)) from None
