"""Certificates that a worker's client shows, and those that it trusts, against a real TLS server."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedplan.client import Retry, Syft
from fedplan.errors import ConfigError, GridConnectionError
from fedplan.tls import showing, trusted
from tests.authorities import Authority, Signed


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "ours")


@pytest.fixture(scope="module")
def ann(authority: Authority) -> Signed:
    return authority.sign("ann")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[tuple[str, list[str | None]]]:
    """A server that asks for a certificate, and answers nothing: its address, and the names that it saw."""
    own = authority.sign("grid", address="127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.cert, own.key)
    context.load_verify_locations(authority.cert)
    context.verify_mode = ssl.CERT_OPTIONAL
    shown: list[str | None] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed
                return
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
                certificate = wrapped.getpeercert()
                names = dict(pair for part in (certificate or {}).get("subject", ()) for pair in part)
                shown.append(names.get("commonName"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", shown
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def ask(url: str, **options: Path | None) -> str:
    """What a client says of a server that answers nothing."""

    async def asked() -> None:
        async with Syft(url, retry=Retry(attempts=1), timeout=5, **options) as syft:  # type: ignore[arg-type]
            await syft.new_job("m", "1").start()

    with pytest.raises(GridConnectionError) as failed:
        asyncio.run(asked())
    return str(failed.value)


@pytest.mark.parametrize("scheme", ["https", "wss"])
def test_the_certificate_is_shown_over_http_and_websocket(
    server: tuple[str, list[str | None]], authority: Authority, ann: Signed, scheme: str
) -> None:
    address, shown = server
    shown.clear()
    ask(f"{scheme}://{address}", ca=authority.cert, client_cert=ann.cert, client_key=ann.key)
    ask(f"{scheme}://{address}", ca=authority.cert)
    assert shown == ["ann", None]


def test_a_key_may_stand_in_the_file_of_its_certificate(
    server: tuple[str, list[str | None]], authority: Authority, ann: Signed, tmp_path: Path
) -> None:
    address, shown = server
    shown.clear()
    both = tmp_path / "both.pem"
    both.write_bytes(ann.key.read_bytes() + ann.cert.read_bytes())
    ask(f"https://{address}", ca=authority.cert, client_cert=both)
    assert shown == ["ann"]


@pytest.mark.parametrize("scheme", ["https", "wss"])
def test_a_server_of_an_authority_that_is_not_trusted_is_refused(
    server: tuple[str, list[str | None]], tmp_path: Path, scheme: str
) -> None:
    address, shown = server
    shown.clear()
    assert "CERTIFICATE_VERIFY_FAILED" in ask(f"{scheme}://{address}")
    other = Authority(tmp_path, "other")
    assert "CERTIFICATE_VERIFY_FAILED" in ask(f"{scheme}://{address}", ca=other.cert)
    assert shown == []


def test_files_that_cannot_be_used_are_told_before_anything_is_opened(
    authority: Authority, ann: Signed, tmp_path: Path
) -> None:
    bob = authority.sign("bob")
    locked = authority.sign("locked", password=b"a password")
    text = tmp_path / "text"
    text.write_text("no PEM")
    missing = tmp_path / "missing"
    wrong: list[tuple[Path | None, Path | None, Path | None, str]] = [
        (None, ann.key, None, "is of no use without its certificate"),
        (ann.cert, None, None, "does not hold both the certificate and its key"),
        (ann.cert, bob.key, None, "the key is that of another certificate"),
        (locked.cert, locked.key, None, "the key has a password"),
        (text, ann.key, None, "no PEM"),
        (missing, None, None, "No such file"),
        (None, None, text, "it holds no certificate in PEM"),
        (None, None, missing, "No such file"),
    ]
    for cert, key, ca, told in wrong:
        with pytest.raises(ConfigError, match=told):
            Syft("https://grid.example", client_cert=cert, client_key=key, ca=ca)


@pytest.mark.parametrize("url", ["http://127.0.0.1:5000", "ws://127.0.0.1:5000"])
def test_a_certificate_for_a_connection_without_tls_is_an_error(url: str, ann: Signed) -> None:
    with pytest.raises(ConfigError, match="over TLS alone"):
        Syft(url, client_cert=ann.cert, client_key=ann.key)
    with pytest.raises(ConfigError, match="over TLS alone"):
        Syft("https://grid.example", app=object(), client_cert=ann.cert, client_key=ann.key)


def test_a_client_that_shows_none_trusts_what_all_do(ann: Signed) -> None:
    assert showing(None, None, None) is trusted()
    assert showing(ann.cert, ann.key, None) is not trusted()
