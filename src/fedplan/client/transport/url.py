"""The grid's address: one URL, as the HTTP and as the WebSocket form."""

import dataclasses
import ipaddress
from typing import Self
from urllib.parse import SplitResult, urlsplit, urlunsplit

import httpx

from fedplan.errors import ConfigError, InsecureUrlError

_SCHEMES = {"http": ("http", "ws"), "https": ("https", "wss"), "ws": ("http", "ws"), "wss": ("https", "wss")}
_FORM = "must begin with https://, wss://, http:// or ws:// and name a host, such as wss://grid.example:5000"


@dataclasses.dataclass(frozen=True, slots=True)
class GridUrl:
    """Where the grid is.

    Attributes:
        http: base of the HTTP endpoints, without a trailing slash: ``https://grid.example/base``.
        websocket: the URL that a WebSocket opens, below a path with the slash that it was given with:
            ``wss://grid.example/base/``. A proxy may serve only one of the two forms.
        prefers_websocket: True when the URL was given as ws:// or wss://: messages then go over a WebSocket.
    """

    http: str
    websocket: str
    prefers_websocket: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """Reads a URL with the scheme http, https, ws or wss, and perhaps a path below which the grid is.

        Raises:
            ConfigError: it is not such a URL.
        """
        parts = _split(url)
        base = parts.path.rstrip("/")
        slash = "/" if base and parts.path.endswith("/") else ""
        http, websocket = _SCHEMES[parts.scheme]
        user, at, name = parts.netloc.rpartition("@")
        host = f"{user}{at}{name.lower()}"
        return cls(
            http=urlunsplit((http, host, base, "", "")),
            websocket=urlunsplit((websocket, host, base + slash, "", "")),
            prefers_websocket=parts.scheme.startswith("ws"),
        )

    @property
    def secure(self) -> bool:
        """True when the connection is encrypted."""
        return self.http.startswith("https:")

    @property
    def local(self) -> bool:
        """True when the grid is on this machine, so that nobody listens on the way."""
        host = urlsplit(self.http).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def public(self) -> str:
        """The base of the HTTP endpoints without a password that it may hold: names the grid."""
        parts = urlsplit(self.http)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def origin(self) -> str:
        """Scheme, host and port, for messages to people: never a password that the URL may hold."""
        parts = urlsplit(self.http)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def check_secure(self) -> None:
        """Insists on encryption, but to a grid on this machine.

        Raises:
            InsecureUrlError: the URL is plain http or ws, of another machine.
        """
        if not self.secure and not self.local:
            raise InsecureUrlError(
                f"{self.origin} is not encrypted: others could read the model, the token and what is "
                "reported. Use the grid's https:// or wss:// URL, or pass allow_plain_text=True (on the "
                "command line --allow-plain-text), for example in a network of your own"
            )


def _split(url: str) -> SplitResult:
    """The parts of a URL that a connection can be opened to. Errors repeat none: it may hold a password."""
    if not isinstance(url, str):
        raise ConfigError(f"the grid's URL is a {type(url).__name__}; it {_FORM}")
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets of an IPv6 address that do not match
        raise ConfigError(f"the grid's URL cannot be read: it {_FORM}") from None
    if not _has_port(parts):
        raise ConfigError("the port of the grid's URL must be a number from 1 to 65535")
    if parts.scheme not in _SCHEMES or not _has_host(parts, url):
        raise ConfigError(f"the grid's URL {_FORM}")
    if parts.query or parts.fragment:
        raise ConfigError(
            "the grid's URL has a part behind '?' or '#', which no request would keep: leave it out"
        )
    return parts


def _has_port(parts: SplitResult) -> bool:
    """Whether the port is one, or the scheme's own."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def _has_host(parts: SplitResult, url: str) -> bool:
    """Whether there is a host whose name can be looked up, and a URL that httpx reads too."""
    try:
        (parts.hostname or "").encode("idna")
        httpx.URL(url)
    except (UnicodeError, httpx.InvalidURL):
        return False
    return bool(parts.hostname) and not any(map(str.isspace, url))


def check_token(token: object) -> None:
    """Checks a token that is to travel with each request.

    Raises:
        ConfigError: it is nothing that a header can hold.
    """
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or token != token.strip():
        raise ConfigError(
            "the token must be a text of printable ASCII characters without spaces around it, for it travels "
            "in a header. One that was read from a file may end with a line break: strip() it"
        )
