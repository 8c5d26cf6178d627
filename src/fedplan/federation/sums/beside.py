"""What updates add to a sum beside their tensors. It is computed before a sum is changed, for it can fail."""

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Self

from fedplan.errors import AggregationError
from fedplan.federation.sums.metrics import MetricNames, Metrics, metrics_of_all, total_of
from fedplan.federation.update import Contribution, Weighting
from fedplan.wire import Summary


@dataclasses.dataclass(frozen=True, slots=True)
class Beside:
    """What some updates add.

    Attributes:
        weight: the sum of their weights.
        numbers: by name, of what `Contribution.numbers` holds, weighted.
        samples: of which they told.
        told: what their workers measured.
        own: what the grid measured of them.
    """

    weight: Fraction
    numbers: Mapping[str, Fraction]
    samples: Fraction
    told: Metrics
    own: Metrics

    @classmethod
    def of(
        cls,
        factors: Sequence[float],
        summaries: Sequence[Summary],
        contributions: Sequence[Contribution],
        weighting: Weighting,
        kept: MetricNames,
    ) -> Self:
        """What several updates add.

        Args:
            factors: by what each is multiplied.
            summaries: what each tells.
            contributions: what the strategy makes of each.
            weighting: how much metrics may count.
            kept: which metrics are.

        Raises:
            AggregationError: a number is not finite.
        """
        names = sorted({name for contribution in contributions for name in contribution.numbers})
        try:
            numbers = {
                name: total_of(
                    (factor, made.numbers[name])
                    for factor, made in zip(factors, contributions, strict=True)
                    if name in made.numbers
                )
                for name in names
            }
            return cls(
                total_of((factor, 1.0) for factor in factors),
                numbers,
                total_of((summary.samples or 0.0, 1.0) for summary in summaries),
                metrics_of_all([kept.told(summary) for summary in summaries], weighting),
                metrics_of_all([made.metrics for made in contributions], weighting),
            )
        except (OverflowError, ValueError):  # what an infinite number and NaN raise
            raise AggregationError("a number that the grid computes of the report is not finite") from None
