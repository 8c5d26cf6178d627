"""Lines of the table from what is at least, or at most, to be reached."""

from benchmarks.line import Line


def at_least(what: str, least: float, measured: float, unit: str) -> Line:
    """A rate that is to be reached: as the time of one, which is to be no longer."""
    ours = f"{measured:.4g} {unit} (wanted: {least:.4g})"
    return Line(what, ours, "", 1e3 / measured, (1e3 / measured,) * 2, 1e3 / least, "ms")


def of_floor(what: str, least: float, ours: list[float], floor: list[float], median: float) -> Line:
    """A rate beside its floor's, in turns: as floor / ours, for `ours >= least * floor`."""
    ratios = sorted(theirs / mine for mine, theirs in zip(ours, floor, strict=True))
    quarter = len(ratios) // 4
    spread = ratios[quarter], ratios[-1 - quarter]
    rates = (sorted(side)[len(side) // 2] for side in (ours, floor))
    mine, theirs = (f"{rate:.4g}/s" for rate in rates)
    return Line(what, mine, f"{theirs}, a bare app", median, spread, 1 / least)


def at_most(what: str, most: float, measured: float, unit: str) -> Line:
    """A figure that is not to be exceeded."""
    return Line(what, f"{measured:.4g} {unit}", "", measured, (measured, measured), most, unit)
