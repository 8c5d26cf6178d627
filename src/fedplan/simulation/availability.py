"""When clients report on the virtual clock, and whether they do."""

import dataclasses
import math

from fedplan.errors import ConfigError
from fedplan.simulation.chance import Chance, Purpose


@dataclasses.dataclass(frozen=True, slots=True)
class Availability:
    """How long clients take, and how many never report.

    A client takes ``seconds × pace × delay`` from its place in a cycle to its report. Its pace stays the same
    in all cycles, its delay is another each time; both are log-normal with median 1.

    Attributes:
        dropout: the chance that a client which has a place in a cycle never reports. It loses the place after
            the server_config's ``place_timeout``, or at the cycle's deadline.
        seconds: the median time.
        spread: the standard deviation of the logarithm of the pace; 0 if all clients are alike. With 0.5 the
            slowest tenth takes 1.9 times the median or longer, with 1 it takes 3.6 times.
        jitter: that of the delay.

    Raises:
        ConfigError: a number is out of its range.
    """

    dropout: float = 0.0
    seconds: float = 0.0
    spread: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"availability: dropout is {self.dropout}; it must be at least 0 and below 1")
        for name in ("seconds", "spread", "jitter"):
            value = getattr(self, name)
            if not (0 <= value < math.inf):
                raise ConfigError(f"availability: {name} is {value}; it must be a number from 0")

    def is_gone(self, chance: Chance, client: int, cycle: int, at: int) -> bool:
        """Whether a client never reports.

        Args:
            chance: draws it.
            client: its number.
            cycle: the cycle in which it has a place.
            at: how many places it had in this cycle before.
        """
        return (
            self.dropout > 0
            and chance.uniform(Purpose.GONE, client=client, cycle=cycle, at=at) < self.dropout
        )

    def takes(self, chance: Chance, client: int, cycle: int) -> float:
        """Seconds until a client's report."""
        if not self.seconds:
            return 0.0
        pace = self.spread * chance.normal(Purpose.PACE, client=client) if self.spread else 0.0
        delay = self.jitter * chance.normal(Purpose.DELAY, client=client, cycle=cycle) if self.jitter else 0.0
        return self.seconds * math.exp(pace + delay)


ALL_AT_ONCE = Availability()
"""Every client reports, and takes no time."""
