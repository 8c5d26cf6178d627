"""What commands print."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

_WIDE = 240
"""Columns of a table that goes into a file or a pipe."""


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Prints a text, which may hold words of a grid or of a file: they cannot steer the terminal.

    Args:
        text: what is printed, with its line breaks, and with all else escaped that is not printable.
        err: print it to stderr.
        nl: with a line break at its end.
    """
    from fedplan.text import escaped_lines

    typer.echo(escaped_lines(text), err=err, nl=nl)


def print_json(value: Any) -> None:
    """Prints JSON to stdout. Numbers that are not finite are null, for JSON has none."""
    typer.echo(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[str] = ()
) -> None:
    """Prints a table to stdout; what is not printable is escaped, as `echo` does.

    Args:
        columns: their titles.
        rows: the cells.
        numbers: titles of the columns that are aligned to the right.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fedplan.text import escaped_lines

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in columns:
        table.add_column(
            Text(escaped_lines(title)), justify="right" if title in numbers else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(escaped_lines(cell)) for cell in row))
    console = Console()
    (console if console.is_terminal else Console(width=_WIDE)).print(table)


def local_time(moment: datetime) -> str:
    """A moment in this machine's time zone: ``2026-03-05 12:00:00``."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape: ``64×784``, ``any×10``, ``scalar``."""
    return "×".join("any" if extent is None else str(extent) for extent in shape) or "scalar"
