"""The key `secure_aggregation` of a server_config."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedplan.wire.amounts import Length, Number


class SecureAggregationConfig(BaseModel):
    """How a cycle adds its reports up without the grid seeing any of them; see docs/privacy.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    workers: Annotated[int, Field(ge=3, le=100_000)]
    """Places in a cycle. As soon as so many workers are in, the round begins."""
    fewest: Annotated[int, Field(ge=3, le=100_000)] | None = None
    """With so many workers a round begins when the time to gather is over; when absent, (1 − dropout) of
    `workers`."""
    clip: Annotated[Number, Field(gt=0)]
    """Largest magnitude of a diff's values in the first cycle, times weight / max_weight; later cycles take
    it from the sum before."""
    level: Literal["honest", "lying"] = "honest"
    """What the grid is trusted with."""
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.3
    """Of the workers in a round, so many may drop out."""
    corrupt: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    """Of the workers in a round, so many may tell the grid all that they know without harm to the others."""
    bits: Annotated[int, Field(ge=4, le=16)] = 8
    """Of a value in a report. With less than 4, ten workers round more away than the scales can follow."""
    most_metric: Annotated[Number, Field(gt=0, le=1e9)] = 1e6
    """Largest magnitude of a metric; a worker that measured more leaves that metric out."""
    gather_length: Length = 600.0
    """Seconds in which workers are taken."""
    training_length: Length = 3600.0
    """Seconds in which they train."""
    stage_length: Length = 60.0
    """Seconds for each of the other stages."""

    @property
    def least(self) -> int:
        """With so many workers a round begins."""
        return self.fewest or max(3, -(-self.workers * (1000 - self.dropout_thousandths) // 1000))

    @property
    def dropout_thousandths(self) -> int:
        """`dropout` in thousandths, as the protocol counts it."""
        return round(1000 * self.dropout)

    @property
    def corrupt_thousandths(self) -> int:
        """`corrupt` in thousandths."""
        return round(1000 * self.corrupt)

    @model_validator(mode="after")
    def _begins_with_no_more_than_it_has(self) -> Self:
        if self.fewest is not None and self.fewest > self.workers:
            raise ValueError(f"fewest ({self.fewest}) is more than workers ({self.workers})")
        return self
