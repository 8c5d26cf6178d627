"""`fedplan token`, beside a grid that is running: two processes of it on one database."""

import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import Invoke, fedplan_process
from tests.grid.models import hosting

CALLS = {
    "host": ("POST", "host-training"),
    "read": ("GET", "retrieve-model?name=m"),
    "observe": ("GET", "status"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grid")


@pytest.fixture(scope="module")
def urls(data: Path) -> Iterator[list[str]]:
    """Two replicas of one grid, with a model that is not public."""
    serve = ("serve", "--port", 0, "--data", data)
    with fedplan_process(*serve) as one, fedplan_process(*serve) as other:
        urls = [process.stdout.readline().strip() for process in (one, other)]
        answer = httpx.post(f"{urls[0]}/model-centric/host-training", json=hosting("m"), timeout=30)
        assert answer.json() == {"status": "success"}
        yield urls


def ask(url: str, scope: str, token: str | None) -> httpx.Response:
    method, path = CALLS[scope]
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    message = hosting(f"m-{os.urandom(4).hex()}") if method == "POST" else None
    address = f"{url}/model-centric/{path}"
    return httpx.request(method, address, headers=headers, json=message, timeout=30)


def create(fedplan: Invoke, data: Path, name: str, *scopes: str, expires: str = "1h") -> str:
    asked = [part for scope in scopes for part in ("--scope", scope)]
    result = fedplan("token", "create", name, *asked, "--expires", expires, "--data", data)
    assert result.exit_code == 0, result.stderr
    (token,) = result.stdout.splitlines()
    return str(token)


def test_a_token_opens_what_it_is_for_on_every_replica_at_once(
    fedplan: Invoke, urls: list[str], data: Path
) -> None:
    tokens = {scope: create(fedplan, data, f"for {scope}", scope) for scope in (*CALLS, "admin")}
    for url in urls:
        for held, token in tokens.items():
            for scope in CALLS:
                answer = ask(url, scope, token)
                if held in (scope, "admin"):
                    assert answer.status_code == 200, answer.text
                else:
                    assert answer.status_code == 403
                    assert f"'for {held}' is for {held}, and this needs '{scope}'" in answer.json()["error"]
        for scope in CALLS:
            assert ask(url, scope, None).status_code == 401
            assert ask(url, scope, "fedplan_made-up").status_code == 401


def test_a_token_may_be_for_several_things(fedplan: Invoke, urls: list[str], data: Path) -> None:
    token = create(fedplan, data, "both", "read", "observe")
    assert [ask(urls[0], scope, token).status_code for scope in CALLS] == [403, 200, 200]


def test_a_revoked_token_opens_nothing_and_its_name_may_be_used_again(
    fedplan: Invoke, urls: list[str], data: Path
) -> None:
    token = create(fedplan, data, "leaked", "admin")
    assert ask(urls[1], "observe", token).status_code == 200
    taken = fedplan("token", "create", "leaked", "--scope", "read", "--data", data)
    assert (taken.exit_code, taken.stdout) == (1, "")
    assert "there is a token 'leaked'" in taken.stderr
    assert fedplan("token", "revoke", "leaked", "--data", data).exit_code == 0
    for url in urls:
        refused = ask(url, "observe", token)
        assert refused.status_code == 401
        assert "was revoked" in refused.json()["error"]
    again = fedplan("token", "revoke", "leaked", "--data", data)
    assert again.exit_code == 1
    assert "no token 'leaked' to revoke" in again.stderr
    assert create(fedplan, data, "leaked", "read") != token


def test_the_list_tells_all_but_the_tokens(fedplan: Invoke, urls: list[str], data: Path) -> None:
    token = create(fedplan, data, "listed", "read", "host", expires="never")
    result = fedplan("token", "list", "--data", data)
    assert "listed" in result.stdout
    assert token not in result.stdout
    told = json.loads(fedplan("token", "list", "--data", data, "--json").stdout)
    (one,) = [each for each in told if each["name"] == "listed"]
    assert (one["scopes"], one["expires_at"], one["state"]) == (["host", "read"], None, "good")
    written = [path.read_bytes() for path in data.glob("grid.db*")]
    assert not any(token.encode() in content for content in written)


def test_a_token_is_good_for_90_days_if_nothing_else_is_said(
    fedplan: Invoke, urls: list[str], data: Path
) -> None:
    assert fedplan("token", "create", "usual", "--scope", "read", "--data", data).exit_code == 0
    told = json.loads(fedplan("token", "list", "--data", data, "--json").stdout)
    (token,) = [each for each in told if each["name"] == "usual"]
    made, ends = (datetime.datetime.fromisoformat(token[name]) for name in ("created_at", "expires_at"))
    assert ends - made == datetime.timedelta(days=90)


def test_commands_take_it_as_their_token(fedplan: Invoke, urls: list[str], data: Path) -> None:
    token = create(fedplan, data, "of a person", "observe")
    assert fedplan("status", "--url", urls[0]).exit_code == 1
    assert fedplan("status", "--url", urls[0], "--token", token).exit_code == 0


@pytest.mark.parametrize("expires", ["soon", "0d", "5", "-1d", "1.5h", ""])
def test_a_wrong_time_is_wrong_usage(fedplan: Invoke, tmp_path: Path, expires: str) -> None:
    result = fedplan("token", "create", "x", "--scope", "read", "--expires", expires, "--data", tmp_path)
    assert result.exit_code == 2


def test_a_folder_without_a_grid_is_not_made_one(fedplan: Invoke, tmp_path: Path) -> None:
    result = fedplan("token", "create", "x", "--scope", "read", "--data", tmp_path)
    assert result.exit_code == 1
    assert "there is no grid in" in result.stderr
    assert list(tmp_path.iterdir()) == []
