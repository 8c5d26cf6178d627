"""`fedplan serve`: with what it starts, and with what it does not."""

import contextlib
import datetime
import ipaddress
import sqlite3
import ssl
import stat
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from fedplan.cli.main import app
from tests.cli.conftest import Invoke, fedplan_process


def refused(*arguments: object, **environment: str) -> str:
    """The one line with which the grid does not start."""
    with fedplan_process("serve", "--port", 0, *arguments, **environment) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, ""), errors
    (line,) = errors.splitlines()
    return line


def refused_at_once(*arguments: object, **environment: str) -> str:
    """The one line with which it does not start, in this process: nothing is opened before."""
    result = CliRunner().invoke(app, ["serve", "--port", "0", *map(str, arguments)], env=environment)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    return line


# Where other machines reach it


@pytest.mark.some(3)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_an_address_that_other_machines_reach_needs_an_owner_token(tmp_path: Path, host: str) -> None:
    data = tmp_path / "data"
    line = refused("--host", host, "--data", data)
    assert "other machines reach this grid" in line
    assert "FEDPLAN_OWNER_TOKEN" in line
    assert "--insecure" in line
    assert not data.exists()


def test_an_owner_token_that_is_easily_guessed_does_not_do(tmp_path: Path) -> None:
    line = refused("--host", "0.0.0.0", "--data", tmp_path / "data", FEDPLAN_OWNER_TOKEN="abc")
    assert "FEDPLAN_OWNER_TOKEN is short enough to be guessed" in line
    assert "abc" not in line


def test_an_owner_token_opens_such_an_address(tmp_path: Path) -> None:
    arguments = ("serve", "--port", 0, "--host", "0.0.0.0", "--data", tmp_path)
    with fedplan_process(*arguments, FEDPLAN_OWNER_TOKEN="secret" * 3) as process:
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/model-centric/status").status_code == 401


@pytest.mark.some(3)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.5", "::1"])
def test_an_address_of_this_machine_alone_needs_none(tmp_path: Path, host: str) -> None:
    with fedplan_process("serve", "--port", 0, "--host", host, "--data", tmp_path) as process:
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/model-centric/status").json() == {"models": []}


# TLS


def certificate(folder: Path, password: bytes | None = None) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "grid")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    return cert_file, key_file


def test_it_speaks_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    arguments = ("serve", "--port", 0, "--data", tmp_path / "data", "--tls-cert", cert, "--tls-key", key)
    with fedplan_process(*arguments) as process:
        url = process.stdout.readline().strip()
        assert url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=str(cert))
        assert httpx.get(f"{url}/healthz", verify=trusting).json() == {"status": "ok"}
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http") + "/healthz")


def test_a_certificate_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, locked = certificate(other, b"a password")
    text = tmp_path / "text"
    text.write_text("no PEM")
    data = ("--data", tmp_path / "data")
    assert "--tls-cert and --tls-key" in refused(*data, "--tls-cert", cert)
    assert "--tls-cert and --tls-key" in refused_at_once(*data, "--tls-key", key)
    for c, k in ((tmp_path / "missing", key), (cert, tmp_path / "missing"), (text, key), (cert, locked)):
        line = refused_at_once(*data, "--tls-cert", c, "--tls-key", k)
        assert f"'{c}' with the key '{k}' cannot be used: " in line
    assert not (tmp_path / "data").exists()


# Settings


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("FEDPLAN_OWNER_TOKENS", "; did you mean FEDPLAN_OWNER_TOKEN?"),
        ("FEDPLAN_CORS_ORIGIN", "; did you mean FEDPLAN_CORS_ORIGINS?"),
        ("FEDPLAN_XYZZY", "."),
    ],
)
def test_a_variable_that_nothing_reads_is_named_with_the_nearest(
    tmp_path: Path, name: str, nearest: str
) -> None:
    line = refused_at_once("--data", tmp_path / "data", **{name: "s3cret"})
    assert line.startswith(f"fedplan: {name} is no setting of fedplan{nearest} ")
    assert "s3cret" not in line
    assert not (tmp_path / "data").exists()


def test_every_command_finds_such_a_variable_but_its_help(
    fedplan: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDPLAN_ATUH_TOKEN", "s3cret")
    result = fedplan("status", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "did you mean FEDPLAN_AUTH_TOKEN?" in result.stderr
    assert fedplan("status", "--help").exit_code == 0


def test_what_other_commands_and_grids_read_is_known(
    fedplan: Invoke, monkeypatch: pytest.MonkeyPatch, grid_url: str
) -> None:
    for name, value in (("FEDPLAN_URL", grid_url), ("FEDPLAN_AUTH_TOKEN", "x"), ("FEDPLAN_DATA_DIR", "x")):
        monkeypatch.setenv(name, value)
    assert fedplan("status").exit_code == 0


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("FEDPLAN_CORS_ORIGINS", "https://s3cret.example", "not JSON"),
        ("FEDPLAN_CORS_ORIGINS", '["s3cret.example"]', "https://page.example"),
        ("FEDPLAN_CORS_ORIGINS", '["https://s3cret.example/"]', "no slash at the end"),
        ("FEDPLAN_CORS_ORIGINS", '{"s3cret": 1}', "list"),
        ("FEDPLAN_ALLOWED_HOSTS", "s3cret", "not JSON"),
        ("FEDPLAN_KEEP_DIFFS", "s3cret", "boolean"),
        ("FEDPLAN_MAX_MESSAGE_BYTES", "s3cret", "integer"),
    ],
)
def test_a_value_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, value: str, why: str) -> None:
    line = refused_at_once("--data", tmp_path, **{name: value})
    assert line.startswith(f"fedplan: {name}: ")
    assert why in line
    assert "s3cret" not in line


# Its folder


def start_and_stop(data: Path) -> str:
    with fedplan_process("serve", "--port", 0, "--data", data) as process:
        assert process.stdout.readline()
        process.terminate()
        return process.communicate(timeout=60)[1]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_other_users_cannot_look_into_its_folder(tmp_path: Path) -> None:
    made, empty = tmp_path / "made", tmp_path / "empty"
    empty.mkdir(mode=0o755)
    for data in (made, empty):
        start_and_stop(data)
        assert (mode(data), mode(data / "grid.db")) == (0o700, 0o600)
    made.chmod(0o755)  # as an older grid left it
    start_and_stop(made)
    assert mode(made) == 0o700


def test_a_folder_that_holds_other_things_stays_as_it_is_and_the_log_says_so(tmp_path: Path) -> None:
    data = tmp_path / "shared"
    data.mkdir(mode=0o755)
    (data / "a file").touch()
    assert "holds other things too" in start_and_stop(data)
    assert (mode(data), mode(data / "grid.db")) == (0o755, 0o600)


def test_a_database_of_a_newer_fedplan_is_one_line(tmp_path: Path) -> None:
    start_and_stop(tmp_path / "data")
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "grid.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    with fedplan_process("serve", "--port", 0, "--data", tmp_path / "data") as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    (line,) = errors.splitlines()
    assert "schema 9999 of a newer fedplan" in line


# The key of its secrets


def test_a_database_whose_key_is_lost_is_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    start_and_stop(data)
    key = data / "grid.key"
    assert mode(key) == 0o600
    kept = key.read_text()
    key.unlink()
    assert "encrypted under another key" in refused("--data", data)
    key.write_text(kept)
    start_and_stop(data)


def test_a_key_that_is_too_short_is_one_line(tmp_path: Path) -> None:
    assert "at least 32 characters" in refused_at_once("--data", tmp_path, FEDPLAN_SECRET_KEY="hunter2")
