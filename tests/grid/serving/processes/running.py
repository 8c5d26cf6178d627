"""Grids of several processes, which start at once: as forks of one that has loaded all that they need."""

import contextlib
import multiprocessing
import os
from pathlib import Path

from prometheus_client import values

from fedplan.grid.serving.processes import parent
from tests.processes import Process

PROGRAM = """
import functools, logging
from pathlib import Path
from fedplan.grid import Settings, serve_in_processes
from fedplan.grid.serving.processes import parent
from tests.grid.serving.processes.running import by_forks, prepare
logging.basicConfig(format="%(levelname)s %(message)s")
folder = Path({folder!r})
settings = Settings(data_dir=folder, database_url={database!r}, poll_seconds=0.05, lease_seconds=0.5)
by_forks()
parent._LOOK_SECONDS = {look!r}
first = functools.partial(prepare, folder)
serve_in_processes(2, settings, port=0, on_ready=lambda port: print(port, flush=True), prepare=first)
"""


def by_forks():
    """Has a grid's processes start as forks of the one that `tests.processes` keeps."""
    parent.CONTEXT = multiprocessing.get_context("forkserver")


def prepare(folder):
    """What each does first: its output goes to a file that is named by its id, and does not begin in one."""
    values.ValueClass = values.get_value_class()  # this was settled when the fork's origin loaded it
    with (folder / f"{os.getpid()}.out").open("w") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)


@contextlib.contextmanager
def grid_of_two(folder, database=None, look=parent._LOOK_SECONDS):
    """The parent of a grid of two processes; the grid prints its port.

    Args:
        folder: of its data.
        database: its URL.
        look: seconds between two looks whether they are at work.
    """
    with Process("-c", PROGRAM.format(folder=str(folder), database=database, look=look)) as running:
        try:
            yield running
        finally:
            running.kill()  # the others end when they see it


def pids(folder):
    """The processes that a grid of this folder has had, in the order of their starts."""
    found = sorted(Path(folder).glob("*.out"), key=lambda file: file.stat().st_ctime_ns)
    return [int(file.stem) for file in found]


def lives(pid):
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
