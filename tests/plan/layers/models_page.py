"""`scripts/models`: writes docs/models.md from what is found out, or compares it with that."""

import argparse
import difflib
import logging
import re
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from tests.plan.layers.survey import TABLES, Cell, Row

PAGE = Path(__file__).parents[3] / "docs" / "models.md"

HEAD = """\
# What becomes a Plan

These tables say which layers, losses and optimizers of PyTorch can be part of a Plan. `scripts/models`
makes them by trying. Each layer stands in a small model, in train mode. Its training step is traced, the
model gets other weights, and the Plan runs beside PyTorch for three steps at two batch sizes. "yes" means
that the loss, the parameters and the buffers were equal after each step.

The last two columns are about other clients. The Plan is translated for browsers (syft.js) and for phones
(KotlinSyft and SwiftSyft), and each translation is compared with the Plan. "–" means that there is no Plan
to translate.

What is marked "no" is refused when it is traced: the message says which layer it is, in which line, and what
helps. Layers are tried with the options that PyTorch gives them by default. Where another option changes the
answer, a note says so; layers of one and three dimensions are as those of two there. `Lazy…` layers are what
they become when they first run. A function of `torch.nn.functional` is as its layer. The numbers in brackets
lead to the notes at the end.
"""


def page(tables: Mapping[str, Mapping[str, Row]]) -> str:
    """The text of the page from the rows by table and name."""
    notes: dict[str, int] = {}
    parts = [HEAD]
    for heading, rows in tables.items():
        columns = TABLES[heading][0]
        lines = [columns, ["---"] * len(columns)]
        lines += [[f"`{name}`", *(_told(cell, notes) for cell in cells)] for name, cells in rows.items()]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        parts.append(f"## {heading}\n\n{table}\n")
    listed = "\n".join(f"{number}. {note}" for note, number in notes.items())
    return "\n".join([*parts, f"## Notes\n\n{listed}\n"])


def _told(cell: Cell, notes: dict[str, int]) -> str:
    if not cell.note:
        return cell.answer
    return f"{cell.answer} [{notes.setdefault(cell.note, len(notes) + 1)}]"


def rows_of(text: str) -> dict[str, dict[str, Row]]:
    """The rows by table and name from the text of the page."""
    notes = dict(re.findall(r"^(\d+)\. (.*)$", text, re.MULTILINE))
    tables = {}
    for part in text.split("\n## ")[1:-1]:
        heading, _, table = part.partition("\n")
        lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
        tables[heading] = {
            name.strip("`"): tuple(_read(cell, notes) for cell in cells) for name, *cells in lines
        }
    return tables


def _read(cell: str, notes: Mapping[str, str]) -> Cell:
    answer, _, number = cell.partition(" [")
    return Cell(answer, notes[number.removesuffix("]")] if number else "")


def find_out(show: bool) -> dict[str, dict[str, Row]]:
    """Tries everything, which takes some minutes of one processor."""
    tables: dict[str, dict[str, Row]] = {}
    for heading, (_, names, tried) in TABLES.items():
        tables[heading] = {}
        for name in names:
            started = time.process_time()
            tables[heading][name] = row = tried(name)
            if show:
                took = f"{time.process_time() - started:.1f} s"
                print(name, *(cell.answer for cell in row), took, sep="\t", file=sys.stderr, flush=True)
    return tables


def main() -> int:
    """Writes the page; with --check compares it instead, and returns 1 when it is out of date."""
    parser = argparse.ArgumentParser(prog="scripts/models", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare docs/models.md with what is found out")
    parser.add_argument("--verbose", action="store_true", help="tell each answer as it is found")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # PyTorch's, about options
    logging.disable(logging.WARNING)  # PyTorch's, about its tracer
    text = page(find_out(arguments.verbose))
    print(f"tried everything in {time.process_time():.0f} s of one processor", file=sys.stderr)
    if not arguments.check:
        PAGE.write_text(text)
        return 0
    changes = list(
        difflib.unified_diff(PAGE.read_text().splitlines(), text.splitlines(), "docs/models.md", "found", n=0)
    )
    print("\n".join(changes) or "docs/models.md is up to date")
    return int(bool(changes))


if __name__ == "__main__":
    sys.exit(main())
