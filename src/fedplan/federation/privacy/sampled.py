"""What an ε would be if workers were sampled: an assumption that no grid can check. Needs `dp-accounting`."""

import importlib
from typing import Any

from fedplan.errors import ConfigError


def sampled_epsilon(noise_multiplier: float, rate: float, cycles: int, delta: float) -> float:
    """The ε if each worker took part in each cycle by an own, secret lot (Poisson sampling).

    It is computed by privacy loss distributions, which takes seconds.

    Args:
        noise_multiplier: the noise's standard deviation over the clip.
        rate: the chance of each lot, in (0, 1]. With 1 it is the ε without sampling, nearly exact.
        cycles: how many.
        delta: in (0, 1).

    Raises:
        ConfigError: dp-accounting is not installed (the extra `privacy`).
    """
    try:
        accounting: Any = importlib.import_module("dp_accounting")
    except ImportError:
        raise ConfigError(
            "what sampling would give is computed by dp-accounting: pip install 'fedplan[privacy]'"
        ) from None
    event = accounting.GaussianDpEvent(noise_multiplier)
    if rate < 1:
        event = accounting.PoissonSampledDpEvent(rate, event)
    accountant = accounting.pld.PLDAccountant()
    accountant.compose(event, cycles)
    return float(accountant.get_epsilon(delta))
