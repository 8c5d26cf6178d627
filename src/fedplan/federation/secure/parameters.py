"""How many neighbours a worker has and how many shares give a secret, for a number of workers.

Drop-outs and corrupt workers are told in thousandths, so that every implementation counts the same ones.
"""

import dataclasses
import enum

import numpy as np
from numpy.typing import NDArray

from fedplan.errors import SecureAggregationError
from fedplan.federation.secure.tails import at_least, fewer_than
from fedplan.federation.tensors import Float64s

SECURITY = 2.0**-40
"""A round's random graph is a bad one for privacy with no more than this probability."""

FAILURE = 2.0**-20
"""A round that no more workers leave than may has too few shares with no more than this probability."""

COMPLETE_UP_TO = 100
"""Among so many workers each has all others as neighbours."""

MOST_WORKERS = 100_000
"""A round has no more."""

_THOUSAND = 1000

_ROUNDING = 1 + 1e-6
"""What the last digits of a probability may differ by, from one machine to another."""


class Trust(enum.StrEnum):
    """What the grid is trusted with."""

    HONEST = "honest"
    """It follows the protocol, and looks at whatever it gets."""
    LYING = "lying"
    """It may tell workers what it likes. Workers sign what they say, with keys that are registered."""

    def covers(self, other: "Trust") -> bool:
        """Whether who asks for the other one is content with this one."""
        return self is other or self is Trust.LYING


@dataclasses.dataclass(frozen=True, slots=True)
class Parameters:
    """The numbers of a round.

    Attributes:
        workers: who take part: n.
        trust: what the grid is trusted with.
        dropout: thousandths of the workers that may drop out.
        corrupt: thousandths of the workers that may be corrupt: they tell the grid all that they know.
        degree: neighbours of each worker: k.
        threshold: so many shares give a secret: t.
    """

    workers: int
    trust: Trust
    dropout: int
    corrupt: int
    degree: int
    threshold: int

    @property
    def fewest(self) -> int:
        """So many must be left at every stage: n_min = ⌈(1 − δ) n⌉. It is not the threshold of shares."""
        return -(-self.workers * (_THOUSAND - self.dropout) // _THOUSAND)

    @property
    def most_corrupt(self) -> int:
        """So many workers may be corrupt: ⌈γ n⌉."""
        return -(-self.workers * self.corrupt // _THOUSAND)

    @property
    def quorum(self) -> int:
        """Where the grid may lie, so many must sign the same lists.

        Two groups of as many have an honest worker in common, and it signs one pair of lists.
        """
        return (self.workers + self.most_corrupt) // 2 + 1

    @property
    def is_complete(self) -> bool:
        """Whether each worker has all others as neighbours."""
        return self.degree == self.workers - 1

    def fault(self) -> str | None:
        """Why these numbers do not keep what they promise; None where they do.

        It looks at privacy, and at what makes a round fail for certain. That a round rarely fails by chance
        is what `parameters_for` sees to.
        """
        return _out_of_range(self) or _unsafe(self)


def parameters_for(
    workers: int, trust: Trust = Trust.HONEST, *, dropout: int = 300, corrupt: int = 100
) -> Parameters:
    """The parameters with the fewest neighbours that keep the promise.

    Args:
        workers: who take part, from 3 on.
        trust: what the grid is trusted with.
        dropout: thousandths of the workers that may drop out, at whatever stage.
        corrupt: thousandths of the workers that may be corrupt.

    Raises:
        SecureAggregationError: no parameters keep it.
    """
    for degree in _degrees(workers, trust, dropout, corrupt):
        found = _sparse(Parameters(workers, trust, dropout, corrupt, degree, 0))
        if found is not None:
            return found
    complete = Parameters(workers, trust, dropout, corrupt, max(workers - 1, 0), 0)
    complete = dataclasses.replace(complete, threshold=complete.quorum)
    fault = complete.fault()
    if fault is not None:
        raise SecureAggregationError(
            f"{workers} workers of which {dropout / 10:g} % may drop out and {corrupt / 10:g} % may be "
            f"corrupt cannot add their reports up securely: {fault}. Take more workers, or let fewer drop "
            "out or be corrupt"
        )
    return complete


def _degrees(workers: int, trust: Trust, dropout: int, corrupt: int) -> range:
    """The degrees of a sparse graph that may be enough."""
    if not COMPLETE_UP_TO < workers <= MOST_WORKERS:
        return range(0)
    given = Parameters(workers, trust, dropout, corrupt, 0, 0)
    least = 2 if trust is Trust.HONEST else _cut(given) // 2 * 2 + 2
    return range(least, workers - 1, 2)


def _sparse(given: Parameters) -> Parameters | None:
    """The least threshold with which so many neighbours are enough; None where there is none."""
    alive = given.fewest - 1  # beside the worker whose secret it is
    failing = given.workers * fewer_than(given.workers - 1, alive, given.degree)
    thresholds = np.arange(1, int((failing <= FAILURE).sum()))
    safe = thresholds[_broken(given, thresholds) <= SECURITY]
    return dataclasses.replace(given, threshold=int(safe[0])) if len(safe) else None


def _cut(given: Parameters) -> int:
    """So many workers may be missing for the others, as far as the grid can bring that about."""
    return given.workers - given.fewest + given.most_corrupt


def _broken(given: Parameters, thresholds: NDArray[np.int_]) -> Float64s:
    """For each threshold, how likely the corrupt have enough shares of some worker's secret, at the most."""
    likely = at_least(given.workers - 1, min(given.most_corrupt, given.workers - 1), given.degree)
    enough = thresholds
    if given.trust is Trust.LYING:
        # Two groups of holders that are each enough then have an honest one in common.
        enough = 2 * thresholds - (given.degree + 1)
    broken: Float64s = given.workers * likely[np.clip(enough, 0, given.degree + 1)]
    return broken


def _out_of_range(given: Parameters) -> str | None:
    if not 3 <= given.workers <= MOST_WORKERS:
        return f"a round has 3 to {MOST_WORKERS} workers"
    if not (0 <= given.dropout < _THOUSAND and 0 <= given.corrupt < _THOUSAND):
        return "shares of the workers are from 0 to 999 thousandths"
    if not (given.is_complete or (0 < given.degree < given.workers - 1 and given.degree % 2 == 0)):
        return "each worker has all others as neighbours, or an even number of them"
    if given.fewest - given.most_corrupt < 2:
        return "fewer than two honest workers may be left, and the sum over one is its report"
    if not 1 <= given.threshold <= given.degree + 1:
        return "no threshold of shares is both more than the corrupt hold and less than are there"
    if given.trust is Trust.LYING and given.quorum > given.fewest:
        return "fewer may be left than must sign the same lists"
    if given.is_complete and given.threshold > given.fewest:
        return "no threshold of shares is both more than the corrupt hold and less than are left"
    return None


def _unsafe(given: Parameters) -> str | None:
    """Why the corrupt workers, and the grid with them, might learn more than they shall."""
    if _broken(given, np.array([given.threshold]))[0] > SECURITY * _ROUNDING:
        return "corrupt workers may hold enough shares of a secret"
    if given.trust is Trust.LYING and not given.is_complete and given.degree <= _cut(given):
        return (
            "a grid that chooses who drops out could leave an honest worker without honest neighbours: "
            f"it needs more than {_cut(given)}"
        )
    return None


def ring_bits(value_bits: int, workers: int) -> int:
    """Bits of the ring in which so many workers' values add without wrapping: p + ⌈log₂ n⌉."""
    return value_bits + (workers - 1).bit_length()
