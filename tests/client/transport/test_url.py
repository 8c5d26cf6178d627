from pathlib import Path
from typing import Any

import pytest

from fedplan.client.transport.url import GridUrl
from fedplan.errors import ConfigError, InsecureUrlError


@pytest.mark.parametrize(
    ("url", "http", "websocket", "prefers"),
    [
        ("https://grid.example", "https://grid.example", "wss://grid.example", False),
        ("wss://grid.example", "https://grid.example", "wss://grid.example", True),
        ("WSS://grid.example", "https://grid.example", "wss://grid.example", True),
        ("http://localhost:5000/", "http://localhost:5000", "ws://localhost:5000", False),
        ("ws://localhost:5000/a/", "http://localhost:5000/a", "ws://localhost:5000/a/", True),
        ("ws://localhost:5000/a", "http://localhost:5000/a", "ws://localhost:5000/a", True),
        ("https://grid.example/a/b//", "https://grid.example/a/b", "wss://grid.example/a/b/", False),
        ("ws://grid.example//", "http://grid.example", "ws://grid.example", True),
        ("http://[::1]:5000/", "http://[::1]:5000", "ws://[::1]:5000", False),
        ("https://grüße.example", "https://grüße.example", "wss://grüße.example", False),
    ],
)
def test_every_scheme_has_both_forms(url: str, http: str, websocket: str, prefers: bool) -> None:
    assert GridUrl.parse(url) == GridUrl(http, websocket, prefers)


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:5000", "ftp://grid.example", "https://", "", "https:grid", "https://:5000"),
        *("https://a..b", "https://[::1", "https://two words", "https://x\n", f"https://{'a' * 64}.example"),
        *(None, b"https://grid.example", 5000, Path("grid")),
    ],
)
def test_what_is_no_url_of_a_grid_is_refused(url: Any) -> None:
    with pytest.raises(ConfigError, match="https://"):
        GridUrl.parse(url)


@pytest.mark.parametrize("port", ["abc", "99999", "65536", "-1", "0", "5000x", "٣"])
def test_what_is_no_port_is_refused(port: str) -> None:
    for scheme in ("http", "wss"):
        with pytest.raises(ConfigError, match=r"port .* a number from 1 to 65535"):
            GridUrl.parse(f"{scheme}://me:secret@grid.example:{port}/")


def test_what_no_request_would_keep_is_refused() -> None:
    for rest in ("?key=1", "#part", "/grid/?key=1"):
        with pytest.raises(ConfigError, match="leave it out"):
            GridUrl.parse(f"https://grid.example{rest}")


@pytest.mark.parametrize("url", ["http://grid.example", "ws://192.168.0.2:5000"])
def test_plain_urls_are_insecure_and_the_error_says_how_to_allow_them(url: str) -> None:
    with pytest.raises(InsecureUrlError, match="allow_plain_text=True"):
        GridUrl.parse(url).check_secure()


def test_secure_urls_pass() -> None:
    GridUrl.parse("wss://grid.example").check_secure()
    GridUrl.parse("https://grid.example").check_secure()


def test_messages_do_not_show_a_password() -> None:
    url = GridUrl.parse("http://me:secret@grid.example:80/x")
    assert url.origin == "http://grid.example:80"
    with pytest.raises(InsecureUrlError) as error:
        url.check_secure()
    assert "secret" not in str(error.value)


def test_a_hosts_name_is_the_same_in_any_case() -> None:
    url = GridUrl.parse("wss://Me:Secret@GRID.Example:80/Base/")
    assert url == GridUrl.parse("wss://Me:Secret@grid.example:80/Base/")
    assert url.http == "https://Me:Secret@grid.example:80/Base"
