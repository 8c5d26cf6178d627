"""Lines of the table from what is at least, or at most, to be reached."""

import math
import statistics
from collections.abc import Sequence

from benchmarks.line import Line
from benchmarks.timing import quartiles


def at_least(what: str, least: float, measured: float, unit: str) -> Line:
    """A rate that is to be reached: as the time of one, which is to be no longer."""
    ours = f"{measured:.4g} {unit} (wanted: {least:.4g})"
    return Line(what, ours, "", 1e3 / measured, (1e3 / measured,) * 2, 1e3 / least, "ms")


def of_other(what: str, least: float, ours: Sequence[float], other: Sequence[float], name: str) -> Line:
    """A rate beside another's, measured in turns: as other / ours, for `ours >= least * other`.

    With 0 as `least` it is information.
    """
    ratios = [theirs / mine for mine, theirs in zip(ours, other, strict=True)]
    mine, theirs = (f"{statistics.median(side):.4g}/s" for side in (ours, other))
    against, target = f"{theirs}, {name}", 1 / least if least else math.inf
    return Line(what, mine, against, statistics.median(ratios), quartiles(ratios), target)


def at_most(what: str, most: float, measured: float, unit: str) -> Line:
    """A figure that is not to be exceeded."""
    return Line(what, f"{measured:.4g} {unit}", "", measured, (measured, measured), most, unit)
