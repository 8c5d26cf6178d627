"""What DP-SGD on a worker spends of its examples' privacy. Its ε needs `dp-accounting`."""

import dataclasses
import importlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

from fedplan.errors import ConfigError
from fedplan.text import counted


@dataclasses.dataclass(frozen=True, slots=True)
class DpSgdSteps:
    """Steps of DP-SGD with the same noise and sampling.

    Attributes:
        noise_multiplier: the noise's standard deviation over the clip.
        sampling_rate: the chance with which each example was in each batch, by a secret lot of its own: in
            (0, 1]. 1 where batches were drawn otherwise: nothing is then taken off for sampling.
        steps: how many, from 1 up.

    Raises:
        ConfigError: one of them is no such number.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int

    def __post_init__(self) -> None:
        noise, rate, steps = self.noise_multiplier, self.sampling_rate, self.steps
        if not (_is_number(noise) and noise >= 0 and _is_number(rate) and 0 < rate <= 1):
            raise ConfigError(
                f"no steps of DP-SGD have a noise multiplier of {noise!r} and a rate of {rate!r}"
            )
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ConfigError(f"steps of DP-SGD are a whole number from 1 up, and not {steps!r}")


@dataclasses.dataclass(frozen=True, slots=True)
class ExamplePrivacy:
    """What DP-SGD has spent of the privacy of a worker's examples: `Job.example_privacy`.

    The unit is one example of this worker; two data sets are neighbours if one has an example more. It is
    another unit than that of the grid's ledger, a worker, and the two are never added.

    `str()` says the steps; `epsilon` computes.

    Attributes:
        runs: the steps, each noise and sampling rate once.
    """

    runs: tuple[DpSgdSteps, ...] = ()

    @classmethod
    def of(cls, runs: Iterable[DpSgdSteps]) -> Self:
        """The sum of some steps."""
        total = Counter[tuple[float, float]]()
        for run in runs:
            total[run.noise_multiplier, run.sampling_rate] += run.steps
        return cls(tuple(DpSgdSteps(noise, rate, steps) for (noise, rate), steps in total.items()))

    def __add__(self, other: "ExamplePrivacy") -> "ExamplePrivacy":
        """What both have spent together, of the same examples."""
        return ExamplePrivacy.of((*self.runs, *other.runs))

    def beyond(self, part: "ExamplePrivacy") -> "ExamplePrivacy":
        """What is left of it without steps that are a part of it."""
        known = {(run.noise_multiplier, run.sampling_rate): run.steps for run in part.runs}
        left = [
            (run.noise_multiplier, run.sampling_rate, run.steps - known.get(key, 0))
            for run in self.runs
            if (key := (run.noise_multiplier, run.sampling_rate))
        ]
        return ExamplePrivacy.of(DpSgdSteps(noise, rate, steps) for noise, rate, steps in left if steps > 0)

    def __str__(self) -> str:
        words = [
            f"{counted(run.steps, 'step')} with a noise multiplier of {run.noise_multiplier:g} and "
            + (f"a sampling rate of {run.sampling_rate:.4g}" if run.sampling_rate < 1 else "no sampling")
            for run in self.runs
        ]
        return "; ".join(words) or "no step"

    def epsilon(self, delta: float) -> float:
        """The ε for a δ, of all steps together, by privacy loss distributions; it takes up to some seconds.

        Args:
            delta: in (0, 1); well below one over the number of the worker's examples.

        Returns:
            0 without a step; infinite where a step had no noise.

        Raises:
            ConfigError: δ is no such number, or dp-accounting is not installed (the extra `privacy`).
        """
        if not _is_number(delta) or not 0 < delta < 1:
            raise ConfigError(f"δ is a number above 0 and below 1, such as 1e-5, and it is {delta!r}")
        if not self.runs:
            return 0.0
        if any(run.noise_multiplier == 0 for run in self.runs):
            return math.inf
        try:
            accounting: Any = importlib.import_module("dp_accounting")
        except ImportError:
            raise ConfigError(
                "the ε of DP-SGD is computed by dp-accounting: pip install 'fedplan[privacy]'. What it is "
                f"computed from is known: {self}"
            ) from None
        accountant = accounting.pld.PLDAccountant()
        for run in self.runs:
            event = accounting.GaussianDpEvent(run.noise_multiplier)
            if run.sampling_rate < 1:
                event = accounting.PoissonSampledDpEvent(run.sampling_rate, event)
            accountant.compose(event, run.steps)
        return float(accountant.get_epsilon(delta))

    def to_json(self) -> str:
        """As it stands in a file."""
        return json.dumps({"runs": [dataclasses.asdict(run) for run in self.runs]})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Reads what `to_json` gave.

        Raises:
            ValueError: it is something else.
        """
        try:
            return cls.of(DpSgdSteps(**run) for run in json.loads(text)["runs"])
        except (LookupError, TypeError, AttributeError, ConfigError) as error:
            raise ValueError(f"these are no steps of DP-SGD: {error}") from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
