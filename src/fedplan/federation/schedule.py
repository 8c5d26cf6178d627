"""Numbers of a client_config that change from cycle to cycle, such as a learning rate.

In place of a number stands an object with the key ``schedule``. Workers get the number of their cycle: a
float, or an integer where all numbers of the schedule are integers.
"""

import abc
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedplan.errors import ConfigError
from fedplan.wire.amounts import MOST_COUNT, Count, Number
from fedplan.wire.config import ClientConfig, explain

Either = int | Number
"""A schedule of integers alone gives integers."""

KEY = "schedule"

HORIZON = 10_000
"""Up to this cycle the numbers of a schedule are checked where no number of cycles is set."""

_COUNTED = frozenset(
    key for key, field in ClientConfig.model_fields.items() if Count in get_args(field.annotation)
)
"""Keys whose numbers are counts."""

_MOST_FLOAT32 = float.fromhex("0x1.fffffep127")
"""Workers compute in float32, in which a larger number is infinite."""


class Schedule(BaseModel, abc.ABC):
    """A number by cycle, the first one being cycle 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @abc.abstractmethod
    def value(self, cycle: int) -> float:
        """Of a cycle, before it is rounded to what the schedule's numbers are."""

    @abc.abstractmethod
    def numbers(self) -> list[Either]:
        """The numbers that say whether it is one of integers."""

    @abc.abstractmethod
    def bends(self, last: int) -> list[int]:
        """Cycles up to `last`, in their order and both ends included, between which it rises or falls only.

        The numbers of all cycles lie between those of these.
        """

    def number(self, cycle: int) -> int | float:
        """What workers of a cycle are told: infinite or not a number where float64 does not hold it."""
        try:
            value = self.value(cycle)
            return round(value) if all(isinstance(one, int) for one in self.numbers()) else float(value)
        except (OverflowError, ValueError):  # a power that is too large; a rounded infinity, or not a number
            return math.inf


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

    def bends(self, last: int) -> list[int]:
        """See `Schedule`."""
        return sorted({1, min(self.warmup + 1, last), last})


class Step(Falling):
    """``start × factor`` after each `every` cycles."""

    schedule: Literal["step"]
    factor: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    every: Count = 1

    def after_warmup(self, done: int) -> float:
        """See `Falling`."""
        if self.start == 0:
            return 0.0  # also where the power is too large
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

    def bends(self, last: int) -> list[int]:
        """See `Schedule`."""
        return [*range(1, min(last, len(self.values)) + 1)]


KINDS: dict[str, type[Schedule]] = {"step": Step, "cosine": Cosine, "linear": Linear, "values": Values}
"""By what stands under ``schedule``."""


def config_at(client_config: Mapping[str, Any], cycle: int) -> dict[str, Any]:
    """A client_config with the numbers of a cycle in place of its schedules.

    A number that its key does not allow, or that float32 does not hold, is replaced by that of the last cycle
    before the first such one: a model without a number of cycles may outlast what was checked at hosting.

    Args:
        client_config: as the model's owner wrote it.
        cycle: number of the cycle, from 1.

    Raises:
        ConfigError: something in a schedule is missing or wrong, also its number in the first cycle.
    """
    return {
        key: _at(key, value, cycle) if is_schedule(value) else value for key, value in client_config.items()
    }


def check_schedules(client_config: Mapping[str, Any], cycles: int | None) -> None:
    """Checks the numbers that the schedules of a client_config have in all cycles.

    Args:
        client_config: as the model's owner wrote it.
        cycles: how many cycles the model has; None where no number ends it: then `HORIZON` are checked.

    Raises:
        ConfigError: something in a schedule is missing or wrong, or a key does not allow its number, or
            float32 does not hold it; the message names the first cycle with such a number.
    """
    for key, told in client_config.items():
        if is_schedule(told):
            schedule = _read(key, told)
            wrong = _first_wrong(key, schedule, HORIZON if cycles is None else cycles)
            if wrong is not None:
                raise _wrong(key, schedule, wrong)


def is_schedule(value: object) -> bool:
    """Whether a value of a client_config is a number that changes from cycle to cycle."""
    return isinstance(value, dict) and KEY in value


def _at(key: str, told: Mapping[str, Any], cycle: int) -> int | float:
    schedule = _read(key, told)
    number = schedule.number(cycle)
    if _is_allowed(key, number):
        return number
    wrong = _first_wrong(key, schedule, cycle) or cycle
    if wrong == 1:
        raise _wrong(key, schedule, wrong)
    return schedule.number(wrong - 1)


def _read(key: str, told: Mapping[str, Any]) -> Schedule:
    kind = KINDS.get(told[KEY]) if isinstance(told[KEY], str) else None
    if kind is None:
        raise ConfigError(
            f"client_config: '{key}': there is no schedule {told[KEY]!r}; there are {', '.join(KINDS)}"
        )
    try:
        return kind.model_validate(dict(told))
    except ValidationError as error:
        raise ConfigError(f"client_config: '{key}': {explain(error, kind)}") from None


def _is_allowed(key: str, number: float) -> bool:
    if key in _COUNTED:
        return 1 <= number <= MOST_COUNT
    return -_MOST_FLOAT32 <= number <= _MOST_FLOAT32


def _first_wrong(key: str, schedule: Schedule, last: int) -> int | None:
    """The first cycle up to `last` whose number is not allowed; None when there is none.

    What is allowed is an interval. So where the first of the cycles between two bends is right and the last
    one is wrong, those before some cycle are right and the others wrong.
    """
    right = 0
    for bend in schedule.bends(last):
        if _is_allowed(key, schedule.number(bend)):
            right = bend
            continue
        wrong = bend
        while wrong - right > 1:
            middle = (right + wrong) // 2
            if _is_allowed(key, schedule.number(middle)):
                right = middle
            else:
                wrong = middle
        return wrong
    return None


def _wrong(key: str, schedule: Schedule, cycle: int) -> ConfigError:
    allowed = f"a whole number from 1 to {MOST_COUNT}" if key in _COUNTED else "within what float32 holds"
    fewer = "" if cycle == 1 else f", or set num_cycles to {cycle - 1} or less"
    return ConfigError(
        f"client_config: '{key}': its schedule gives {schedule.number(cycle)} in cycle {cycle}, and it must "
        f"be {allowed}: change the schedule{fewer}"
    )
