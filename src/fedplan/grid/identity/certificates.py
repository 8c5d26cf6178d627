"""Client certificates of workers: a proxy before the grid verifies them, and tells their subjects."""

import dataclasses
import re
from collections.abc import Sequence

from fedplan.errors import AuthenticationError
from fedplan.grid.web.proxies import Proxies

_SUBJECT = re.compile(r"/?[A-Za-z0-9.]+=.")
"""How a subject begins: ``CN=worker 7,O=…`` (RFC 2253), or ``/O=…/CN=…`` (OpenSSL's older form). Where there
is no certificate, Caddy 2.6 sends the name of its placeholder in its place, and Apache ``(null)``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Certificate:
    """What a request tells of its sender's certificate.

    Attributes:
        subject: the subject of a certificate that was verified; None without one.
        lack: why there is none, and what to do.
    """

    subject: str | None = None
    lack: str = (
        "this grid is not told of any; its operator has to name the header in which a proxy tells it "
        "(FEDPLAN_CERTIFICATE_HEADER)"
    )

    def required(self) -> str:
        """The subject, for a model that asks for a certificate.

        Raises:
            AuthenticationError: there is none; the message says what is missing.
        """
        if self.subject is None:
            raise AuthenticationError(f"this model needs a client certificate: {self.lack}")
        return self.subject


NO_CERTIFICATE = Certificate()
"""What is told where nobody tells of certificates."""


class Certificates:
    """Reads the header in which a trusted proxy tells the subject of a client's certificate.

    Anybody can write a header. So it counts only in a request that comes directly from a trusted proxy, which
    sets the header in each request, or takes it away.

    Args:
        header: its name; None where no proxy tells of certificates.
        proxies: those whose word is taken.
    """

    def __init__(self, header: str | None, proxies: Proxies) -> None:
        self._header = None if header is None else header.lower().encode()
        self._proxies = proxies

    @property
    def are_told(self) -> bool:
        """Whether there is such a header."""
        return self._header is not None

    def of(self, peer: str | None, headers: Sequence[tuple[bytes, bytes]]) -> Certificate:
        """What a request, or the handshake of a WebSocket, tells.

        Args:
            peer: the address at the other end of the connection, whatever it says of others.
            headers: their names in lower case.
        """
        if self._header is None:
            return NO_CERTIFICATE
        if peer is None or peer not in self._proxies:
            return Certificate(
                lack="the request did not come through a proxy that verifies them; use the grid's URL at the "
                "proxy, which its operator has to name in FEDPLAN_TRUSTED_PROXIES"
            )
        told = [value.decode("latin-1").strip() for name, value in headers if name == self._header]
        if len(told) > 1:  # one of them may be the client's own
            return Certificate(
                lack="the proxy told several subjects; its operator has to have it replace the header "
                "FEDPLAN_CERTIFICATE_HEADER, and not add to it"
            )
        if not told or not told[0]:
            return Certificate(
                lack="the proxy has verified none with a subject; show one of an authority that it trusts "
                "(fedplan worker --client-cert, --client-key)"
            )
        if _SUBJECT.match(told[0]) is None:
            return Certificate(
                lack="what the proxy told is no subject, such as CN=worker 7; show a certificate (fedplan "
                "worker --client-cert, --client-key). Where there was one, the proxy sends something else in "
                "the header FEDPLAN_CERTIFICATE_HEADER"
            )
        return Certificate(told[0])
