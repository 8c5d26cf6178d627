"""Everything that a simulation draws, each a function of its seed and of what it is drawn for.

The words are those of `RandomStream`, a counter-based generator: no draw depends on how many others there
were before, so a cohort depends on the seed and the cycle alone, on every engine and after every restart.
"""

import contextlib
import dataclasses
import enum
from collections.abc import Iterator

import torch

from fedplan.plan import RandomStream

_FIRST_WORDS = 64


class Purpose(enum.IntEnum):
    """What is drawn. Numbers of different purposes are independent."""

    ORDER = 0
    """In which order clients ask for places in a cycle."""
    SEED = 1
    """The seed of a client's own random inputs."""
    DATA = 2
    """Seeds of torch's generators, from which a client's data may draw."""
    LOADER = 3
    """The seed of the loader that is made of a data set."""
    GONE = 4
    """Whether a client never reports."""
    PACE = 5
    """How fast a client is."""
    DELAY = 6
    """How fast it is this time."""
    LIAR = 7
    """Which clients behave in another way."""
    NOISE = 8
    """Noise in what they report."""
    PRIVACY = 9
    """The noise that a grid adds under differential privacy."""
    STAGE = 10
    """At which stage of a secure round a client is gone."""
    ROUNDING = 11
    """How a client rounds its report in a secure round."""
    SECRETS = 12
    """The secrets of a client in a secure round."""


@dataclasses.dataclass(frozen=True, slots=True)
class Chance:
    """The draws of one seed.

    Attributes:
        stream: holds the seed.
    """

    stream: RandomStream

    def order(self, cycle: int, turn: int, population: int) -> Iterator[int]:
        """All clients in a random order, of which only as much is made as is asked for.

        Args:
            cycle: of which cycle.
            turn: another number gives another order.
            population: how many clients there are.
        """
        moved: dict[int, int] = {}  # what a shuffle by Fisher and Yates has moved so far
        words = self._words(Purpose.ORDER, cycle, turn, most=population)
        for place, word in enumerate(words):
            chosen = place + word % (population - place)
            taken = moved.get(chosen, chosen)
            moved[chosen] = moved.pop(place, place)
            yield taken

    def client_seed(self, client: int) -> int:
        """The seed of a client's random inputs: 128 bits."""
        low, high = self.stream.words(2, cycle=0, step=client, number=Purpose.SEED).tolist()
        return int(low | high << 64)

    def number(self, purpose: Purpose, *, client: int, cycle: int = 0, at: int = 0) -> int:
        """A whole number from 0 to 2⁵³ − 1, number `at` of those for a client and a cycle."""
        words = self.stream.words(at + 1, cycle=cycle, step=client, number=purpose)
        return int(words[at]) >> 11

    def uniform(self, purpose: Purpose, *, client: int, cycle: int = 0, at: int = 0) -> float:
        """A number from 0 to 1 without 1."""
        return self.number(purpose, client=client, cycle=cycle, at=at) * 2.0**-53

    def normal(self, purpose: Purpose, *, client: int, cycle: int = 0) -> float:
        """A normally distributed number with mean 0 and variance 1."""
        drawn = self.stream.normal((1,), cycle=cycle, step=client, number=purpose, dtype=torch.float64)
        return float(drawn)

    @contextlib.contextmanager
    def of_torch(self, client: int, cycle: int) -> Iterator[int]:
        """Within the block torch's global generator is one of this client and cycle alone.

        Yields:
            the seed, for generators that the data has itself.
        """
        seed = self.number(Purpose.DATA, client=client, cycle=cycle)
        before = torch.default_generator.get_state()
        torch.default_generator.manual_seed(seed)
        try:
            yield seed
        finally:
            torch.default_generator.set_state(before)

    def privacy_key(self, cycle: int) -> bytes:
        """The key of the noise in a cycle. A grid's is drawn by the operating system, and written nowhere."""
        return self._key(Purpose.PRIVACY, 0, cycle)

    def rounding_key(self, client: int, cycle: int) -> bytes:
        """The key from which a client rounds its report in a secure round."""
        return self._key(Purpose.ROUNDING, client, cycle)

    def secrets_key(self, client: int, cycle: int) -> bytes:
        """The key from which a client draws its secrets in a secure round. A worker asks its system."""
        return self._key(Purpose.SECRETS, client, cycle)

    def _key(self, purpose: Purpose, client: int, cycle: int) -> bytes:
        return self.stream.words(4, cycle=cycle, step=client, number=purpose).astype("<u8").tobytes()

    def _words(self, purpose: Purpose, cycle: int, step: int, most: int) -> Iterator[int]:
        """The words of a draw, made in longer and longer pieces."""
        made, size = 0, min(_FIRST_WORDS, most)
        while made < most:
            yield from self.stream.words(size, cycle=cycle, step=step, number=purpose)[made:].tolist()
            made, size = size, min(2 * size, most)


def client_seed(seed: int, client: int) -> int:
    """The seed of a client's random inputs in a simulation.

    A worker of a real grid that gets it has the same dropout masks and noise::

        fedplan.participate(url, name, version, x, y, seed=fedplan.simulation.client_seed(0, 7))

    Args:
        seed: the simulation's.
        client: number of the client, from 0.

    Raises:
        ConfigError: the seed is no integer from 0 to 2¹²⁸ − 1.
    """
    return Chance(RandomStream(seed)).client_seed(client)
