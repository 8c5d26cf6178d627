import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from fedplan.client import Job, ModelCentricFLClient, participate, participate_async
from fedplan.client.loops.blocking import blocking_twin, run_blocking
from fedplan.errors import JobStateError


async def add(a: int, *, b: int = 2) -> int:
    """Adds."""
    await asyncio.sleep(0)
    return a + b


async def fetch_async() -> str:
    """Fetches."""
    return threading.current_thread().name


def test_the_result_and_the_exception_come_back() -> None:
    async def fail() -> None:
        raise ZeroDivisionError("mine")

    assert run_blocking(add(1)) == 3
    with pytest.raises(ZeroDivisionError, match="mine"):
        run_blocking(fail())


def test_a_twin_takes_the_same_arguments_and_is_named_by_the_rule() -> None:
    twin, fetch = blocking_twin(add), blocking_twin(fetch_async)
    assert twin(1, b=5) == 6
    assert (twin.__name__, fetch.__name__) == ("add_blocking", "fetch")
    assert inspect.signature(twin) == inspect.signature(add)
    assert (twin.__doc__ or "").startswith("Adds.")


def test_twins_of_methods_are_methods() -> None:
    assert Job.report_blocking.__qualname__ == "Job.report_blocking"
    assert ModelCentricFLClient.retrieve_model.__qualname__ == "ModelCentricFLClient.retrieve_model"
    assert participate.__name__ == "participate"
    assert inspect.signature(participate) == inspect.signature(participate_async)


def test_all_blocking_calls_share_one_thread() -> None:
    assert run_blocking(fetch_async()) == run_blocking(fetch_async()) != threading.current_thread().name


async def test_a_blocking_call_works_where_an_event_loop_runs_already() -> None:
    assert run_blocking(add(1)) == 3  # as in a notebook


def test_a_blocking_call_inside_of_another_one_is_refused() -> None:
    async def nested() -> None:
        run_blocking(add(1))

    with pytest.raises(JobStateError, match="await the coroutine form"):
        run_blocking(nested())


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C reaches Python, also where the tests run in a shell's background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("of_main_thread", [True, False])
def test_ctrl_c_cancels_and_waits_for_the_clean_up(of_main_thread: bool) -> None:
    """The system may hand a signal to any thread of the process."""
    log: list[str] = []

    async def long() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.05)
            log.append("cleaned up")

    main = threading.get_ident()

    def press() -> None:
        signal.pthread_kill(main if of_main_thread else threading.get_ident(), signal.SIGINT)

    timer = threading.Timer(0.2, press)
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_blocking(long())
    assert time.monotonic() - began < 5
    assert log == ["cleaned up"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_has_a_thread_of_its_own() -> None:
    code = """
import asyncio, os
from fedplan.client.loops.blocking import run_blocking
async def one(): return 1
assert run_blocking(one()) == 1
child = os.fork()
if child == 0:
    os._exit(0 if run_blocking(one()) == 1 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
