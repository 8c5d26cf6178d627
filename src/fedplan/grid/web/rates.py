"""How many requests one address may send, so that one client cannot keep a grid from answering the others."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from fedplan.errors import TooManyRequestsError

SECONDS_SAVED = 10
"""An address that was quiet may send as many requests at once as it may in so many seconds."""

_MOST_ADDRESSES = 100_000
"""Of so many addresses it is known how much they sent. The one that was quiet the longest is forgotten."""

_HOUSEHOLD_BITS = 64
"""Of an address of IPv6: who has one has all that begin with these bits."""


class Rates:
    """A bucket of requests for each address; it fills evenly, and each request takes one out.

    Args:
        each_second: so many requests fill into it each second; 0: they are not counted.
        clock: seconds from any moment on.
    """

    def __init__(self, each_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._each_second = each_second
        self._most = float(each_second * SECONDS_SAVED)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is in it, and when

    def take(self, address: str | None) -> None:
        """Counts a request; None for one that comes from inside this process, which always may.

        Raises:
            TooManyRequestsError: there were too many before it.
        """
        if not self._each_second or address is None:
            return
        key, now = household(address), self._clock()
        left, at = self._buckets.pop(key, (self._most, now))
        left = min(self._most, left + (now - at) * self._each_second)
        taken = left >= 1
        self._buckets[key] = (left - taken, now)
        if len(self._buckets) > _MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        if not taken:
            raise TooManyRequestsError(
                f"too many requests come from this address: it may send {self._each_second} a second "
                "(FEDPLAN_REQUESTS_PER_ADDRESS). Ask again in a second"
            )


def household(address: str) -> str:
    """What counts as one address."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address, _HOUSEHOLD_BITS), strict=False))
    except ValueError:
        return address
