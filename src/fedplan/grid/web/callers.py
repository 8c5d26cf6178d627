"""Who asks: what a connection tells of the client that sends a message.

A client downloads and loads every Plan of a cycle as soon as it is in, and does not say before as what it
will ask for them. So it is recognised, by the User-Agent of the request or of the WebSocket's handshake; one
that sends `receive_operations_as` with its cycle request has said it. Nothing is withheld from a client that
is not recognised.

How sure the rows of the table are:

- fedplan: certain; its client sends this over HTTP and WebSocket.
- KotlinSyft: read in its source and in OkHttp's (4.3), which names itself in requests and handshakes when
  nobody else did. An app that runs syft.js under React Native on Android uses OkHttp too; it would be taken
  for KotlinSyft, and should say `receive_operations_as`.
- SwiftSyft: read in its source: URLSession for both, and nothing set. That URLSession names CFNetwork behind
  the app's own name is widely seen for requests; for handshakes it was not observed.
- syft.js in browsers: observed with Chromium, requests and handshakes; all browsers and web views begin so.
- syft.js in Node: observed with Node 20 (`node`) and node-fetch. Handshakes of the package ws name nobody.

PySyft's worker (read in its source: TorchScript, KB/s) has no row. It asks for a cycle over WebSocket only,
and the handshakes of its library name nobody. They hold an Origin, so an Origin makes no browser.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Self

from starlette.requests import HTTPConnection

from fedplan.grid.clients import FEDPLAN, KOTLIN_SYFT, SWIFT_SYFT, SYFT_JS, Client
from fedplan.grid.identity.certificates import NO_CERTIFICATE, Certificate, Certificates

_USER_AGENTS = {
    r"fedplan/": FEDPLAN,
    r"okhttp/": KOTLIN_SYFT,
    r"\S+ CFNetwork/": SWIFT_SYFT,
    r"Mozilla/|node$|node-fetch/": SYFT_JS,
}
"""How a kind's User-Agent begins, as a pattern."""


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a message, as far as its connection tells.

    Attributes:
        token: the bearer token.
        user_agent: what the client calls itself.
        origin: of the web page that sends it, where a browser tells one.
        host: by which name it calls the grid.
        certificate: what a proxy tells of its certificate.
    """

    token: str | None = None
    user_agent: str = ""
    origin: str | None = None
    host: str = ""
    certificate: Certificate = NO_CERTIFICATE

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self:
        """The caller by the headers of its request or handshake, but for its certificate."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() or None if scheme.lower() == "bearer" else None
        return cls(bearer, headers.get("user-agent", ""), headers.get("origin"), headers.get("host", ""))

    @classmethod
    def at(cls, connection: HTTPConnection, certificates: Certificates) -> Self:
        """The caller of a connection, with its certificate.

        Args:
            connection: the request or handshake.
            certificates: reads the certificate.
        """
        peer = None if connection.client is None else connection.client.host
        told = certificates.of(peer, connection.headers.raw)
        return dataclasses.replace(cls.of(connection.headers), certificate=told)

    @property
    def is_foreign_page(self) -> bool:
        """Whether a web page sends it that did not come from the grid itself.

        PySyft, which is no page, names the grid as the origin too; other clients name none.
        """
        return self.origin is not None and self.origin.partition("://")[2] != self.host

    @property
    def client(self) -> Client:
        """The client that it is, if that is known."""
        found = (kind for pattern, kind in _USER_AGENTS.items() if re.match(pattern, self.user_agent))
        return Client(next(found, None))
