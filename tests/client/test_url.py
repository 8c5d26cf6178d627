import pytest

from fedplan.client.url import GridUrl
from fedplan.errors import ConfigError, InsecureUrlError


@pytest.mark.parametrize(
    ("url", "http", "websocket", "prefers"),
    [
        ("https://grid.example", "https://grid.example", "wss://grid.example", False),
        ("wss://grid.example", "https://grid.example", "wss://grid.example", True),
        ("WSS://grid.example", "https://grid.example", "wss://grid.example", True),
        ("http://localhost:5000/", "http://localhost:5000", "ws://localhost:5000", False),
        ("ws://localhost:5000/a/", "http://localhost:5000/a", "ws://localhost:5000/a", True),
    ],
)
def test_every_scheme_has_both_forms(url: str, http: str, websocket: str, prefers: bool) -> None:
    assert GridUrl.parse(url) == GridUrl(http, websocket, prefers)


@pytest.mark.parametrize("url", ["localhost:5000", "ftp://grid.example", "https://", "", "https:grid"])
def test_what_is_no_url_of_a_grid_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="https://"):
        GridUrl.parse(url)


@pytest.mark.parametrize("url", ["http://grid.example", "ws://localhost:5000"])
def test_plain_urls_are_insecure_and_the_error_says_how_to_allow_them(url: str) -> None:
    with pytest.raises(InsecureUrlError, match="verbose=True"):
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
