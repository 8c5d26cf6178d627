"""Web addresses, and those of machines, as text: what they say once they are read."""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

import httpx


def web_address(url: str) -> SplitResult | None:
    """The parts of an http or https URL that can be asked; None when it is none."""
    try:
        parts = urlsplit(url)
        httpx.URL(url).raw_host.decode("ascii").encode("idna")  # what asking it will do
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (httpx.InvalidURL, ValueError):  # a broken address or port
        return None
    return parts if usable else None


def origin_of(url: str) -> str | None:
    """The origin of an http or https URL, as browsers tell it; None when it is none."""
    parts = web_address(url)
    return None if parts is None else f"{parts.scheme}://{parts.netloc}".lower()


def is_below(url: str, prefixes: Iterable[str]) -> bool:
    """Whether a URL begins as one of some do: the same scheme, host and port, and a path at or below."""
    parts = web_address(url)
    if parts is None or "@" in parts.netloc or _CLIMBS.search(parts.path):
        return False
    for prefix in prefixes:
        allowed = web_address(prefix)
        if allowed is None or _place(allowed) != _place(parts):
            continue
        folder = allowed.path.rstrip("/")
        if parts.path == folder or parts.path.startswith(folder + "/"):
            return True
    return False


def is_loopback(name: str) -> bool:
    """Whether a name or an address leads nowhere but to the machine that uses it."""
    if name == "localhost":
        return True
    return is_address(name) and ipaddress.ip_address(name).is_loopback


def is_address(name: str) -> bool:
    """Whether a text is an address of IPv4 or IPv6."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


_CLIMBS = re.compile(r"(^|/|%2f|\\|%5c)(\.|%2e){1,2}(/|%2f|\\|%5c|$)", re.IGNORECASE)
"""A segment that leads to another folder."""


def _place(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
