"""`fedplan worker --review`: a person reads a Plan and decides before it runs."""

import asyncio
import sys
import threading

from fedplan.cli.plan import lines_of
from fedplan.cli.terminal import echo
from fedplan.client import ConsentPolicy, Job
from fedplan.errors import ConfigError
from fedplan.plan.listing import list_plan
from fedplan.wire.messages import EVALUATION_PLAN

_BATCH = 32
"""For the estimate, where the client config names no batch size."""


def check_terminal() -> None:
    """Makes sure that there is somebody to ask.

    Raises:
        ConfigError: there is no terminal.
    """
    if not sys.stdin.isatty():
        raise ConfigError(
            "--review asks a person before anything runs, and there is no terminal to ask in: run it in "
            "one, or let a program decide, with fedplan.participate(accept=…)"
        )


class Review:
    """Shows the Plans that a cycle would run, and asks whether they may run. What may is not shown again."""

    def __init__(self, plan: str, policy: ConsentPolicy | None = None) -> None:
        """A review of the training Plan of this name, and of the evaluation Plan if there is one.

        Args:
            plan: the name.
            policy: what breaks it is refused without a question.
        """
        self._names = (plan, EVALUATION_PLAN)
        self._policy = policy
        self._agreed: set[bytes] = set()

    async def __call__(self, job: Job) -> bool | str:
        """Whether the job may train; the reason if not."""
        allowed = True if self._policy is None else self._policy(job)
        if allowed is not True:
            return allowed
        for name in self._names:
            plan = job.plans.get(name)
            if plan is None:
                continue
            data = plan.serialize()
            if data in self._agreed:
                continue
            size = job.client_config.get("batch_size")
            batch = size if isinstance(size, int) and size > 0 else _BATCH
            for line in lines_of(list_plan(plan, len(data), batch)):
                echo(line, err=True)
            what = "measured" if name == EVALUATION_PLAN else "changed"
            echo(f"Run '{name}' on your data, and report what it {what}? [y/N]: ", nl=False, err=True)
            if (await _read_line()).strip().lower() not in ("y", "yes"):
                return "whoever reviewed its Plan said no"
            self._agreed.add(data)
        return True


async def _read_line() -> str:
    """What is typed, while the connection to the grid stays alive.

    The thread is a daemon, unlike those of `asyncio.to_thread`: after Ctrl-C nobody has to press Enter.
    """
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[str] = loop.create_future()

    def deliver(line: str) -> None:
        if not typed.done():  # as it is after Ctrl-C
            typed.set_result(line)

    def read() -> None:
        loop.call_soon_threadsafe(deliver, sys.stdin.readline())

    threading.Thread(target=read, name="fedplan review", daemon=True).start()
    return await typed
