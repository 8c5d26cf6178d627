"""Amounts that stand in configurations and messages."""

from typing import Annotated

from pydantic import Field

MOST_COUNT = 2**31 - 1
"""The largest `Count`."""

Count = Annotated[int, Field(ge=1, le=MOST_COUNT)]
Number = Annotated[float, Field(allow_inf_nan=False)]
LEAST_LENGTH = 0.01
"""Seconds. A grid that ends cycles or takes places faster does nothing else, and no worker gets in."""

Duration = Annotated[Number, Field(gt=0, le=10 * 365 * 86_400)]
Length = Annotated[Duration, Field(ge=LEAST_LENGTH)]
"""Of a cycle, a stage or a place, in seconds."""
