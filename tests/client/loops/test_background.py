"""A coroutine in the background, as other threads see it."""

import asyncio
import threading
from typing import Any

from fedplan.client.loops.background import BackgroundRun


class Seen(BackgroundRun):
    """Notes what another thread would see after each change that finds something running."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, int]] = []
        super().__init__()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if self.__dict__.get("_task") is not None and self.running:
            self.seen.append((self._ended.done(), self._thread))


async def test_nobody_sees_a_run_before_the_end_that_belongs_to_it() -> None:
    run = Seen()
    await run.begin(asyncio.sleep(0))
    await asyncio.sleep(0)
    run._thread = 0  # as if the first one had run in another thread
    await run.begin(asyncio.sleep(0))
    assert run.seen
    assert set(run.seen) == {(False, threading.get_ident())}
