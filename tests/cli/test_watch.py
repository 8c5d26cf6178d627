"""`fedplan watch`, against a real grid in a process of its own, in a pipe and in a terminal."""

import asyncio
import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fedplan.cli.watching import Lines, Watching
from fedplan.client import ModelCentricFLClient, participate_async
from tests.cli.conftest import ENVIRONMENT, Invoke, Project


async def test_elsewhere_it_prints_lines(
    grid_url: str, project: Project, host, capsys: pytest.CaptureFixture[str]
) -> None:
    host("watched in lines", max_diffs=1, num_cycles=1)
    told = ""

    async def until(words: str) -> None:
        nonlocal told
        async with asyncio.timeout(60):
            while words not in told:
                assert not watching.done(), watching.result()
                told += capsys.readouterr().out
                await asyncio.sleep(0.02)

    async with ModelCentricFLClient(grid_url) as grid:
        watching = asyncio.create_task(Watching(grid, "watched in lines", "1.0", Lines()).run())
        await until("watched in lines 1.0: cycle 1 of 1 has 0 reports and needs 1")
        with np.load(project["data.npz"]) as arrays:
            x, y = arrays["x"], arrays["y"]
        await participate_async(grid_url, "watched in lines", "1.0", x, y)
        await until("watched in lines 1.0: finished, its newest checkpoint is 2\n")
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    assert "  hosted         watched in lines 1.0 cycle 1  " in told
    assert ": checkpoint 2 was made of 1 report\n" in told
    assert "\x1b" not in told


def test_lines_say_once_that_a_grid_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for why in ("gone", "gone", None, None):
        lines.away(why)
    assert capsys.readouterr().err == (
        "the grid does not answer, and is asked again: gone\nthe grid answers again\n"
    )


def test_in_a_terminal_it_is_a_page(grid_url: str, host) -> None:
    host("watched on a page", max_diffs=3)
    terminal, end = pty.openpty()
    environment = ENVIRONMENT | {"TERM": "xterm-256color", "COLUMNS": "160", "LINES": "40"}
    with (
        subprocess.Popen(
            [sys.executable, "-m", "fedplan", "watch", grid_url, "watched on a page", "1.0"],
            stdin=end,
            stdout=end,
            stderr=end,
            env=environment,
        ) as process,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.kill)  # nobody reads its page any more, and it would wait for that
        os.close(end)
        page, ends = "", time.monotonic() + 60
        while not ("0 of 3" in page and "hosted" in page and "needs 3" in page):
            assert time.monotonic() < ends, page
            if select.select([terminal], [], [], 1)[0]:
                page += os.read(terminal, 65536).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        while select.select([terminal], [], [], 10)[0]:
            try:
                page += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # nobody has the other end open any more
                break
        assert process.wait(timeout=30) == 0
    os.close(terminal)
    assert "Traceback" not in page
    assert page.rstrip().endswith("\x1b[?25h") or "\x1b[?1049l" in page  # the terminal is as it was


def test_a_model_that_is_not_hosted_is_an_error(fedplan: Invoke, grid_url: str) -> None:
    result = fedplan("watch", grid_url, "none", "1")
    assert result.exit_code == 1
    assert "no model 'none'" in result.stderr


def test_a_grid_must_be_named(fedplan: Invoke) -> None:
    assert fedplan("watch").exit_code == 2
