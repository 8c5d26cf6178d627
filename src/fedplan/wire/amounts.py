"""Amounts that stand in configurations and messages."""

from typing import Annotated

from pydantic import Field

MOST_COUNT = 2**31 - 1
"""The largest `Count`."""

Count = Annotated[int, Field(ge=1, le=MOST_COUNT)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Duration = Annotated[Number, Field(gt=0, le=10 * 365 * 86_400)]
