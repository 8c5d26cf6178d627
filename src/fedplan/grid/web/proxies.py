"""From which address a request comes, where proxies stand before the grid."""

import ipaddress
from collections.abc import Sequence

_FORWARDED_FOR = b"x-forwarded-for"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """The proxies whose word the grid takes for where a request comes from.

    Each proxy adds the address of its own caller to the end of ``X-Forwarded-For``. So the list is read from
    its end: the first address that is no trusted proxy's is the client's. What stands before it anybody may
    have written.

    Args:
        trusted: their addresses, or networks such as ``10.0.0.0/8``.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = [ipaddress.ip_network(network) for network in trusted]

    def __contains__(self, address: str) -> bool:
        """Whether an address is that of a trusted proxy."""
        found = _parsed(address)
        return found is not None and any(found in network for network in self._trusted)

    def client(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """The address of who sends a request.

        Args:
            peer: at the other end of the connection.
            headers: of the request, their names in lower case.
        """
        if peer not in self:
            return peer
        told = b",".join(value for name, value in headers if name == _FORWARDED_FOR).decode("latin-1")
        nearest = peer
        for entry in reversed(told.split(",")):
            found = _parsed(entry.strip())
            if found is None:  # nothing, a name, or nonsense: the proxy that passed it on is what is known
                return nearest
            nearest = str(found)
            if nearest not in self:
                break
        return nearest


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)  # how a socket for both kinds shows one of IPv4
    return mapped or found
