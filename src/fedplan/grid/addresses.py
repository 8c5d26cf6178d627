"""Web addresses as text: what they say once they are read."""

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
