"""Amounts that stand in configurations and messages."""

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Duration = Annotated[Number, Field(gt=0, le=10 * 365 * 86_400)]
