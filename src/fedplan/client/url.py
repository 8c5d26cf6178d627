"""The grid's address: one URL, as the HTTP and as the WebSocket form."""

import dataclasses
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from fedplan.errors import ConfigError, InsecureUrlError

_SCHEMES = {"http": ("http", "ws"), "https": ("https", "wss"), "ws": ("http", "ws"), "wss": ("https", "wss")}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclasses.dataclass(frozen=True, slots=True)
class GridUrl:
    """Where the grid is.

    Attributes:
        http: base of the HTTP endpoints, without a trailing slash: ``https://grid.example``.
        websocket: the URL that a WebSocket opens: ``wss://grid.example``.
        prefers_websocket: True when the URL was given as ws:// or wss://: messages then go over a WebSocket.
    """

    http: str
    websocket: str
    prefers_websocket: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """Reads a URL with the scheme http, https, ws or wss; a trailing slash makes no difference.

        Raises:
            ConfigError: it is not such a URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not parts.netloc:
            raise ConfigError(
                "the grid's URL must begin with https://, wss://, http:// or ws:// and name a host, "
                "such as wss://grid.example:5000"
            )
        http, websocket = (
            urlunsplit((scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
            for scheme in _SCHEMES[parts.scheme]
        )
        return cls(http, websocket, parts.scheme.startswith("ws"))

    @property
    def secure(self) -> bool:
        """True when the connection is encrypted."""
        return self.http.startswith("https:")

    @property
    def local(self) -> bool:
        """True when the grid is on this machine, so that nobody listens on the way."""
        return urlsplit(self.http).hostname in _LOOPBACK

    @property
    def origin(self) -> str:
        """Scheme, host and port, for messages to people: never a password that the URL may hold."""
        parts = urlsplit(self.http)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def check_secure(self) -> None:
        """Insists on encryption.

        Raises:
            InsecureUrlError: the URL is plain http or ws.
        """
        if not self.secure:
            raise InsecureUrlError(
                f"{self.origin} is not encrypted: others could read the model, the token and what is "
                "reported. Use the grid's https:// or wss:// URL, or pass verbose=True to allow a plain "
                "connection, for example to a grid on your own machine"
            )
