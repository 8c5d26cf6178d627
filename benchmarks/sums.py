"""Exact sums of diffs, whose bits depend on no order, beside an addition in float64."""

import math

import numpy as np

from benchmarks.line import Line, Options
from benchmarks.models import FLOATS
from benchmarks.timing import interleave
from fedplan.federation import Sums, Update, Weighting
from fedplan.plan import Role
from fedplan.wire import Summary, WireTensor


def run(options: Options) -> list[Line]:
    """The table's lines: information, without a target."""
    lines = []
    for size in ("1.25 MB",) if options.smoke else ("1.25 MB", "100 MB"):
        floats = 1000 if options.smoke else FLOATS[size]
        diff = (0.01 * np.random.default_rng(0).standard_normal(floats)).astype(np.float32)
        update = Update([WireTensor(diff, "float32")], Summary(samples=37.0))
        sums = Sums((((floats,), "float32"),), (Role.TRAINED,), Weighting(by_samples=True))
        plain = np.zeros(floats)

        def exact(sums: Sums = sums, update: Update = update) -> None:
            sums.add(update)

        def rounded(plain: np.ndarray = plain, diff: np.ndarray = diff) -> None:
            np.add(plain, np.multiply(diff, 37.0, dtype=np.float64), out=plain)

        taken = interleave(exact, rounded, rounds=options.rounds(15))
        lines.append(taken.line(f"exact sum, one more diff of {size}, weighted", math.inf))
    return lines
