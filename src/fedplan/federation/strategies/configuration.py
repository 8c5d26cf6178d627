"""The settings of a strategy, as they stand in ``server_config["strategy"]``."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fedplan.wire.amounts import Number

Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, lt=1)]
"""A decay or a momentum: in [0, 1)."""


class StrategyConfig(BaseModel):
    """What all strategies may be told. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    clip_norm: Positive | None = None
    """A report whose trained tensors have a larger norm is scaled down to this one before it is added."""
