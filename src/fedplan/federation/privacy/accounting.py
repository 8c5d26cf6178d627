"""Accounting: the ε of noisy sums of which each may hold a report of everybody.

Nothing is gained from sampling here: workers come by themselves, and nobody can promise that who takes part
is secret, or drawn. So the noise of T cycles composes to that of one Gaussian mechanism, whose Rényi
divergence of order α is T α / 2z² (Mironov 2017). The discrete Gaussian has the same bound (Canonne, Kamath
and Steinke 2020). The numbers are those of `dp_accounting.rdp.RdpAccountant`; tests compare them.

The unit is one worker, and neighbours differ in that its reports are zeros: an ε says how much can be told
about whether a worker's data, in all cycles together, was used.
"""

import math
from collections.abc import Iterable

from fedplan.errors import ConfigError

ORDERS: tuple[float, ...] = (
    *(1 + x / 100 for x in range(1, 100)),
    *(2 + x / 10 for x in range(90)),
    *map(float, range(11, 128)),
    *(2.0**x for x in range(7, 21)),
)
"""Of the Rényi divergences that are tried; any gives a bound that holds, and the least is taken."""

_ROUNDS = 200


def epsilon_of(noise_multipliers: Iterable[float], delta: float) -> float:
    """The ε of mechanisms that were used one after the other, for a δ.

    Args:
        noise_multipliers: of each, the noise's standard deviation over the sensitivity.
        delta: in (0, 1).

    Returns:
        0 for none.
    """
    rho = math.fsum(0.5 / z**2 for z in noise_multipliers)
    return 0.0 if rho == 0 else min(_epsilon(rho * order, order, delta) for order in ORDERS)


def epsilon_after(cycles: int, noise_multiplier: float, delta: float) -> float:
    """The ε of so many cycles with the same noise; see `epsilon_of`."""
    return epsilon_of([noise_multiplier / math.sqrt(cycles)], delta) if cycles else 0.0


def is_within_budget(epsilon: float, most: float | None) -> bool:
    """Whether an ε may be spent; a budget that was made for exactly so many cycles allows them."""
    return most is None or epsilon <= most * (1 + 1e-9)


def most_cycles(noise_multiplier: float, delta: float, epsilon: float) -> int:
    """The most cycles whose ε is within a budget."""
    low, high = 0, 1
    while is_within_budget(epsilon_after(high, noise_multiplier, delta), epsilon):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if is_within_budget(epsilon_after(middle, noise_multiplier, delta), epsilon):
            low = middle
        else:
            high = middle
    return low


def multiplier_for(epsilon: float, delta: float, cycles: int) -> float:
    """The least noise multiplier with which so many cycles stay within an ε.

    Raises:
        ConfigError: a number is none that is possible.
    """
    if not (0 < epsilon < math.inf and 0 < delta < 1 and cycles >= 1):
        raise ConfigError("an epsilon is above 0, a delta between 0 and 1, and there is at least one cycle")
    low, high = 0.0, 1.0
    while epsilon_after(cycles, high, delta) > epsilon:
        low, high = high, 2 * high
        if high > 1e9:
            raise ConfigError(f"no noise gives an ε of {epsilon:g} with a δ of {delta:g}: set a larger ε")
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if middle > 0 and epsilon_after(cycles, middle, delta) <= epsilon:
            high = middle
        else:
            low = middle
    return high


def _epsilon(divergence: float, order: float, delta: float) -> float:
    """From a Rényi divergence to an ε (Canonne, Kamath and Steinke 2020, proposition 12)."""
    made = divergence + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
    return max(made, 0.0)
