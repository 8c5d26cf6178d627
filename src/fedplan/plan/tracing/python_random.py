"""Random numbers that Python draws while a step is traced: they would be the same in all runs of its Plan."""

import random
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from fedplan.errors import TraceError

Result = TypeVar("Result")


def without_draws(run: Callable[[], Result]) -> Result:
    """What a run of a step gives, if it draws from no generator of Python's or NumPy's module.

    Those that the author made (`numpy.random.default_rng()`) cannot be watched. Other threads may draw
    meanwhile, so a step is refused only when it is seen to draw twice.

    Raises:
        TraceError: says which generator the step draws from.
    """
    result, drawn = _watched(run)
    if drawn:
        _, again = _watched(run)
        drawn = [name for name in drawn if name in again]
    if drawn:
        raise TraceError(
            f"the step draws numbers by `{drawn[0]}`, and a Plan would keep them as they are now: all "
            "workers would compute with the same ones in each step. Draw with torch (`torch.rand(…)`): its "
            "numbers become random inputs of the Plan"
        )
    return result


def _watched(run: Callable[[], Result]) -> tuple[Result, list[str]]:
    before = _states()
    result = run()
    return result, [name for name, state in _states().items() if state != before[name]]


def _states() -> dict[str, Any]:
    state: Any = np.random.get_state()
    return {"random": random.getstate(), "numpy.random": (bytes(state[1]), *state[2:])}
