"""Numbers of a client_config that change from cycle to cycle, such as a learning rate.

In place of a number stands an object with the key ``schedule``. Workers get the number of their cycle: a
float, or an integer where all numbers of the schedule are integers.
"""

import abc
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedplan.errors import ConfigError
from fedplan.wire.amounts import Count, Number
from fedplan.wire.config import explain

Either = int | Number
"""A schedule of integers alone gives integers."""

KEY = "schedule"


class Schedule(BaseModel, abc.ABC):
    """A number by cycle, the first one being cycle 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @abc.abstractmethod
    def value(self, cycle: int) -> float:
        """Of a cycle, before it is rounded to what the schedule's numbers are."""

    @abc.abstractmethod
    def numbers(self) -> list[Either]:
        """The numbers that say whether it is one of integers."""


class Falling(Schedule):
    """What may begin with a warm-up: it rises evenly from zero to its start over so many cycles first."""

    start: Either
    warmup: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0

    @abc.abstractmethod
    def after_warmup(self, done: int) -> float:
        """The number after so many cycles beyond the warm-up."""

    def value(self, cycle: int) -> float:
        """See `Schedule`."""
        if cycle <= self.warmup:
            return self.start * cycle / (self.warmup + 1)
        return self.after_warmup(cycle - self.warmup - 1)


class Step(Falling):
    """``start × factor`` after each `every` cycles."""

    schedule: Literal["step"]
    factor: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    every: Count = 1

    def after_warmup(self, done: int) -> float:
        """See `Falling`."""
        return float(self.start * self.factor ** (done // self.every))

    def numbers(self) -> list[Either]:
        """See `Schedule`."""
        return [self.start]


class Cosine(Falling):
    """Half a cosine from `start` to `end` over so many cycles; then `end`."""

    schedule: Literal["cosine"]
    end: Either = 0
    cycles: Count

    def after_warmup(self, done: int) -> float:
        """See `Falling`."""
        share = min(1.0, done / self.cycles)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * share)) / 2

    def numbers(self) -> list[Either]:
        """See `Schedule`."""
        return [self.start, self.end]


class Linear(Falling):
    """Evenly from `start` to `end` over so many cycles; then `end`."""

    schedule: Literal["linear"]
    end: Either
    cycles: Count

    def after_warmup(self, done: int) -> float:
        """See `Falling`."""
        return self.start + (self.end - self.start) * min(1.0, done / self.cycles)

    def numbers(self) -> list[Either]:
        """See `Schedule`."""
        return [self.start, self.end]


class Values(Schedule):
    """Listed numbers, one a cycle; the last one stays."""

    schedule: Literal["values"]
    values: Annotated[list[Either], Field(min_length=1, max_length=100_000)]

    def value(self, cycle: int) -> float:
        """See `Schedule`."""
        return self.values[min(cycle, len(self.values)) - 1]

    def numbers(self) -> list[Either]:
        """See `Schedule`."""
        return self.values


KINDS: dict[str, type[Schedule]] = {"step": Step, "cosine": Cosine, "linear": Linear, "values": Values}
"""By what stands under ``schedule``."""


def config_at(client_config: Mapping[str, Any], cycle: int) -> dict[str, Any]:
    """A client_config with the numbers of a cycle in place of its schedules.

    Args:
        client_config: as the model's owner wrote it.
        cycle: number of the cycle, from 1.

    Raises:
        ConfigError: something in a schedule is missing or wrong.
    """
    return {
        key: _at(key, value, cycle) if is_schedule(value) else value for key, value in client_config.items()
    }


def is_schedule(value: object) -> bool:
    """Whether a value of a client_config is a number that changes from cycle to cycle."""
    return isinstance(value, dict) and KEY in value


def _at(key: str, told: Mapping[str, Any], cycle: int) -> int | float:
    kind = KINDS.get(told[KEY]) if isinstance(told[KEY], str) else None
    if kind is None:
        raise ConfigError(
            f"client_config: '{key}': there is no schedule {told[KEY]!r}; there are {', '.join(KINDS)}"
        )
    try:
        schedule = kind.model_validate(dict(told))
    except ValidationError as error:
        raise ConfigError(f"client_config: '{key}': {explain(error, kind)}") from None
    value = schedule.value(cycle)
    return round(value) if all(isinstance(number, int) for number in schedule.numbers()) else float(value)
