"""What holds for all tests."""

import gc
import logging
import os
import signal
from collections import defaultdict

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.long import LONG, MANY, OF_PLANS, kept

# Small tensors gain nothing from more threads, and lose much when the other cores are busy.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

# Machines that run tests are shared, so no example has to end within a time.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def _loggers_as_a_program_finds_them() -> None:
    """A command that a test runs in this process sets loggers for the process; the next test starts anew."""
    for name in ("fedplan", "fedplan.client", "httpx"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.NOTSET)
        logger.disabled = False


def pytest_collection_finish() -> None:
    """What is imported stays to the end, so that the garbage collector need not look through it each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


def pytest_configure() -> None:
    """A shell's background ignores Ctrl-C, and so would the processes that tests start and press it in."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out cases of tests that have many, as `tests.long` says, unless they are asked for by name."""
    if LONG or config.option.keyword or any("::" in argument for argument in config.args):
        return
    tests: dict[object, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("some") or item.path.is_relative_to(OF_PLANS):
            cls, name = getattr(item, "cls", None), getattr(item, "originalname", item.name)
            tests[item.path, cls, name].append(item)
    left_out: set[pytest.Item] = set()
    for cases in tests.values():
        marker = cases[0].get_closest_marker("some")
        every = marker.args[0] if marker else 4 if len(cases) >= MANY else 1
        chosen = kept([case.nodeid for case in cases], every)
        left_out.update(case for place, case in enumerate(cases) if place not in chosen)
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=list(left_out))
