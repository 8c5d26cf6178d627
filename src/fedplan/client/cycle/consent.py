"""Consent: whether a worker lets a cycle's Plans run on its data."""

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from fedplan.errors import ConfigError, CycleDeclinedError

Asked = Callable[[Any], Any]
"""Looks at a job that is in a cycle, before anything runs: True lets it run, False or a reason (a str) does
not. A coroutine function is awaited; a plain one runs in the event loop's thread."""


class InCycle(Protocol):
    """What is told of a job whose Plans may not run; see `Job` for the attributes."""

    model_name: str
    model_version: str
    cycle: int | None


def check_accept(accept: object) -> None:
    """Refuses what cannot be asked.

    Raises:
        ConfigError: it is no function.
    """
    if accept is not None and not callable(accept):
        raise ConfigError(f"accept must be a function that takes a Job, not a {type(accept).__name__}")


async def obtain_consent(accept: Asked | None, job: InCycle) -> None:
    """Asks for consent, if somebody is to be asked.

    Args:
        accept: is asked.
        job: a `Job` that is in a cycle, which `accept` is given.

    Raises:
        CycleDeclinedError: it was refused.
        ConfigError: the answer is none. Silence is no consent.
    """
    if accept is None:
        return
    answer = accept(job)
    if inspect.isawaitable(answer):
        answer = await answer
    if answer is True:
        return
    if answer is not False and not isinstance(answer, str):
        raise ConfigError(
            f"accept must return True, False or a reason (a str), and it returned {answer!r:.100}: nothing "
            "was run, and the place in the cycle is given back"
        )
    reason = answer or "no reason was told"
    which = "a cycle" if job.cycle is None else f"cycle {job.cycle}"
    raise CycleDeclinedError(
        f"the worker did not accept {which} of '{job.model_name}' {job.model_version}: {reason}. Nothing "
        "was run, and its place in the cycle is given back",
        reason=reason,
    )
