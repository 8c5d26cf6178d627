"""The central Gaussian mechanism: the grid adds noise to the sum of clipped reports."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedplan.errors import ConfigError
from fedplan.federation.privacy.clipping import Clip, clipped_values
from fedplan.federation.privacy.noise import NoiseStream, discrete_gaussian
from fedplan.federation.tensors import Float64s

_STEPS = 20
"""The noise's standard deviation is 2²⁰ to 2²¹ units."""

_MARGIN = 2.0**-30
"""Of a norm: more than floating-point arithmetic can be wrong by."""


@dataclasses.dataclass(frozen=True, slots=True)
class CentralGaussian:
    """Clips each report, rounds it to whole units, and adds an integer noise to their sum.

    A unit is a power of two, so sums of float64 are exact, and the sensitivity of the *rounded* reports is
    what is bounded: a report is clipped so far below the clip that rounding cannot bring it above.

    Attributes:
        clip: no report has a larger norm once it is rounded.
        noise_multiplier: the noise's standard deviation over the clip's norm.
        cohort: by what the sum is divided, however many reports came.
        elements: numbers in a report.
    """

    clip: Clip
    noise_multiplier: float
    cohort: int
    elements: int

    @property
    def sigma(self) -> float:
        """The standard deviation of the noise on each number of the sum."""
        return self.noise_multiplier * self.clip.norm

    @property
    def unit(self) -> float:
        """To multiples of it reports are rounded; a power of two."""
        return 2.0 ** (math.frexp(self.sigma)[1] - 1 - _STEPS)

    @property
    def bound(self) -> float:
        """To this norm a report is clipped before it is rounded."""
        return self.clip.norm * (1 - _MARGIN) - math.sqrt(self.elements) / 2 * self.unit

    def check(self) -> None:
        """Sees whether rounding leaves something of a report.

        Raises:
            ConfigError: it does not.
        """
        if self.bound < self.clip.norm / 2:
            raise ConfigError(
                f"server_config: privacy: with a noise_multiplier of {self.noise_multiplier:g} and "
                f"{self.elements:,} numbers in a report, more than half of the clip would be lost to "
                "rounding: set a smaller noise_multiplier"
            )

    def bounded(self, values: Sequence[Float64s]) -> list[Float64s]:
        """A report as it is added up: clipped, in whole units.

        Raises:
            AggregationError: a value is not finite.
        """
        unit = self.unit
        return [np.rint(array / unit) * unit for array in clipped_values(values, self.clip, self.bound)]

    def released(self, average: Sequence[Float64s], reports: int, key: bytes) -> list[Float64s]:
        """The noisy sum over the cohort's size, which may be known to everybody.

        Args:
            average: of `reports` reports that `bounded` made, each with the weight 1.
            reports: how many.
            key: of the noise; used once.
        """
        stream = NoiseStream(key)
        return [self._noisy(array, reports, stream) for array in average]

    def _noisy(self, average: Float64s, reports: int, stream: NoiseStream) -> Float64s:
        units: NDArray[np.float64] = np.rint(average * (reports / self.unit))  # whole, and below 2⁵²
        noise = discrete_gaussian(stream, self.sigma / self.unit, average.size).reshape(average.shape)
        noisy: Float64s = (units.astype(np.int64) + noise).astype(np.float64)
        return noisy * (self.unit / self.cohort)
