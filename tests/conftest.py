"""What holds for all tests."""

import logging
import os
import signal

import pytest
import torch

# Small tensors gain nothing from more threads, and lose much when the other cores are busy.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start


@pytest.fixture(autouse=True)
def _loggers_as_a_program_finds_them() -> None:
    """A command that a test runs in this process sets loggers for the process; the next test starts anew."""
    for name in ("fedplan", "fedplan.client", "httpx"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.NOTSET)
        logger.disabled = False


def pytest_configure() -> None:
    """A shell's background ignores Ctrl-C, and so would the processes that tests start and press it in."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
