"""`fedplan plan show A.pb --diff B.pb`: how two Plans differ."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedplan.cli.terminal import echo, print_json
from fedplan.plan import Plan
from fedplan.plan.difference import Line, differ, differences
from fedplan.plan.listing import Listing
from fedplan.text import counted, in_bytes

_AROUND = 2
"""Lines that are shown before and after one that differs."""

_SIGNS = {"same": " ", "removed": "-", "added": "+"}
_TITLES = {"reported": "what a worker's report would tell the grid"}

_Side = tuple[Path, Plan, Listing]


def show_difference(before: _Side, after: _Side, as_json: bool) -> None:
    """Prints how the second of two Plans differs from the first: each its file, the Plan, and its listing."""
    parts = differences(before[1], after[1])
    if as_json:
        print_json(
            {
                "differ": differ(parts),
                "parts": {name: list(map(dataclasses.asdict, lines)) for name, lines in parts.items()},
                "estimates": [side[2]["estimate"] for side in (before, after)],
            }
        )
    else:
        echo("\n".join(_in_words(before, after, parts)))


def _in_words(before: _Side, after: _Side, parts: Mapping[str, Sequence[Line]]) -> list[str]:
    lines = [f"- {before[0]}: {_heading(before[1])}", f"+ {after[0]}: {_heading(after[1])}", ""]
    if not differ(parts):
        return [
            *lines,
            "Both do the same: inputs, constants, operations and outputs are equal. What they hold for "
            "browsers and phones is not compared.",
        ]
    for name, found in parts.items():
        changed = [line for line in found if line.sign != "same"]
        if changed:
            removed = sum(line.sign == "removed" for line in changed)
            title = _TITLES.get(name, name)
            lines += [f"{title}: {removed} removed, {len(changed) - removed} added", *_shown(found), ""]
    return [*lines, *_costs(before[2]["estimate"], after[2]["estimate"])]


def _heading(plan: Plan) -> str:
    return f"Plan '{plan.name}', {counted(len(plan.graph.nodes), 'operation')}"


def _shown(lines: Sequence[Line]) -> list[str]:
    """Lines that differ, with some around them; how many others are left out."""
    near = {
        place + offset
        for place, line in enumerate(lines)
        if line.sign != "same"
        for offset in range(-_AROUND, _AROUND + 1)
    }
    shown: list[str] = []
    left_out = 0
    for place, line in enumerate(lines):
        if place not in near:
            left_out += 1
            continue
        if left_out:
            shown.append(_left_out(left_out))
        left_out = 0
        shown.append(f"{_SIGNS[line.sign]} {line.text}")
    return [*shown, _left_out(left_out)] if left_out else shown


def _left_out(count: int) -> str:
    return f"  … {counted(count, 'line')} that both have …"


def _costs(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    if "refused" in before or "refused" in after:
        return []
    memory = " → ".join(in_bytes(side["peak_bytes"]) for side in (before, after))
    work = " → ".join(f"{side['work']:,}" for side in (before, after))
    return [f"Memory of one run: {memory}. Additions and multiplications: {work}."]
