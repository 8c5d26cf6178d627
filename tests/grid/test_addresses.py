import pytest

from fedplan.grid.addresses import is_below, is_loopback, origin_of


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("https://a.example/x", "https://a.example"),
        ("https://a.example/x/y?z", "https://a.example/x"),
        ("https://A.example:443/x", "https://a.example/x/"),
        ("http://127.0.0.1:9/x", "http://127.0.0.1:9/"),
        ("https://a.example", "https://a.example/"),
        ("https://a.example/x/..y", "https://a.example/x"),
    ],
)
def test_an_address_at_or_below_another(url, prefix):
    assert is_below(url, ["https://other.example", prefix])


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/x/y",
        "https://a.example:8443/x/y",
        "https://a.example.evil.example/x/y",
        "https://a.example@evil.example/x/y",
        "https://evil@a.example/x/y",
        "https://a.example/xy",
        "https://a.example/",
        "https://a.example/x/../y",
        "https://a.example/x/%2e%2E/y",
        "https://a.example/x/..%2fy",
        "https://a.example/x/..\\y",
        "ftp://a.example/x/y",
        "/x/y",
        "",
    ],
)
def test_an_address_that_is_not_below(url):
    assert not is_below(url, ["https://a.example/x"])
    assert not is_below(url, [])


def test_an_origin():
    assert origin_of("https://A.example:8443/x") == "https://a.example:8443"
    assert origin_of("a.example") is None


def test_what_is_loopback():
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(
        map(is_loopback, ("", "0.0.0.0", "::", "10.0.0.1", "localhost.example", "127.0.0.1.example"))
    )
