"""How often a command collects garbage."""

import atexit
import gc


def collect_seldom() -> None:
    """Leaves what is imported out of most collections, and out of the one at the end.

    PyTorch and the libraries of a grid make a million objects that live until the process ends. To look
    through them again and again, and once more at the end, took a third of a short command's time.
    """
    gc.set_threshold(20_000)
    atexit.register(gc.freeze)
