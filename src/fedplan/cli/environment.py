"""The environment variables that fedplan reads; one that it would not read is most likely misspelt."""

import difflib
import os
from collections.abc import Iterator
from typing import Any

from fedplan.errors import SettingsError

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
    nearest = difflib.get_close_matches(name.removeprefix(PREFIX), names, 1)
    return f"{name} is no setting of fedplan" + (f"; did you mean {PREFIX}{nearest[0]}?" if nearest else ".")
