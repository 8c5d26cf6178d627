import base64
import datetime
import http.server
import json
import threading

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import AuthenticationError, ConfigError, OverloadedError
from fedplan.grid.auth import TokenChecker, WorkerIds, check_authentication, key_digest
from fedplan.wire.config import AuthenticationConfig

SECRET = "a secret of at least sixty-four bytes, so that it does for HS512 too"
IDS = WorkerIds(b"k" * 32)


def pem(key):
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = pem(PRIVATE.public_key())


class TestWorkerIds:
    def test_say_for_which_model_they_were_given(self):
        assert IDS.read(IDS.issue(7, None)).process_id == 7

    def test_are_different_each_time(self):
        assert len({IDS.issue(1, "ann") for _ in range(100)}) == 100

    def test_of_one_subject_have_one_identity_which_does_not_tell_the_subject(self):
        ann, again = IDS.issue(1, "ann"), IDS.issue(1, "ann")
        assert IDS.read(ann).identity == IDS.read(again).identity
        assert IDS.read(ann).identity != IDS.read(IDS.issue(1, "bob")).identity
        assert IDS.read(ann).identity != IDS.read(IDS.issue(2, "ann")).identity
        assert "ann" not in ann

    def test_without_a_subject_have_each_their_own_identity(self):
        assert IDS.read(IDS.issue(1, None)).identity != IDS.read(IDS.issue(1, None)).identity

    def test_are_known_by_every_replica_with_the_same_secret_and_by_no_other_grid(self):
        worker_id = IDS.issue(1, None)
        assert WorkerIds(b"k" * 32).read(worker_id) == IDS.read(worker_id)
        with pytest.raises(AuthenticationError, match="not one that this grid gave out"):
            WorkerIds(b"j" * 32).read(worker_id)

    @given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
    def test_that_were_made_up_are_refused(self, worker_id):
        with pytest.raises(AuthenticationError):
            IDS.read(worker_id)

    @given(st.integers(0, 72), st.sampled_from("abcXYZ019-_"))
    def test_that_were_changed_are_refused(self, at, letter):
        worker_id = IDS.issue(1, None)
        for changed in (worker_id[:at] + letter + worker_id[at + 1 :], worker_id + "=", worker_id[:-1]):
            if changed != worker_id:
                with pytest.raises(AuthenticationError):
                    IDS.read(changed)


def test_request_keys_are_long_texts_of_which_only_a_digest_is_kept():
    ids = WorkerIds(b"s" * 32)
    worker = ids.issue(1, None)
    keys = {ids.request_key(worker, cycle, grant) for cycle in range(10) for grant in range(10)}
    assert len(keys | {ids.request_key(ids.issue(1, None), 0, 0)}) == 101
    assert all(len(key) == 43 for key in keys)
    assert ids.request_key(worker, 3, 1) in keys  # the same for who asks again
    assert WorkerIds(b"t" * 32).request_key(worker, 3, 1) not in keys
    digests = {key_digest(key) for key in keys}
    assert len(digests) == 100
    assert all(len(digest) == 64 for digest in digests)


class TestAnAuthenticationConfiguration:
    @pytest.mark.parametrize(
        "keys", [{"secret": SECRET}, {"pub_key": PUBLIC}, {"endpoint": "https://a.example/x"}]
    )
    def test_that_can_check_tokens_passes(self, keys):
        check_authentication(AuthenticationConfig(**keys))

    @pytest.mark.parametrize(
        "key",
        ["not a key", PUBLIC[:100], pem(ec.generate_private_key(ec.SECP256R1()).public_key()), "ssh-rsa x"],
        ids=["not a key", "half of one", "one of an elliptic curve", "one of SSH"],
    )
    def test_needs_an_rsa_key_in_pem(self, key):
        with pytest.raises(ConfigError, match="pub_key"):
            check_authentication(AuthenticationConfig(pub_key=key))

    @pytest.mark.parametrize("url", ["ftp://a.example", "a.example/x", "http://", "http://[", "http://a:b"])
    def test_needs_a_web_address(self, url):
        with pytest.raises(ConfigError, match="endpoint"):
            check_authentication(AuthenticationConfig(endpoint=url))

    def test_with_a_short_secret_is_taken_with_a_warning_that_does_not_tell_it(self, caplog):
        check_authentication(AuthenticationConfig(secret="hunter2"))
        assert "short" in caplog.text
        assert "hunter2" not in caplog.text


@pytest.fixture
async def checker():
    async with httpx.AsyncClient(timeout=0.5) as client:
        yield TokenChecker(client, 5.0)


@pytest.fixture
def judge():
    """A service that takes the token "good"; it remembers what it was asked."""

    class Judge(http.server.BaseHTTPRequestHandler):
        asked = []  # noqa: RUF012  # one class a test

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.asked.append(body)
            self.send_response(200 if body["auth_token"].startswith("good") else 403)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Judge) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/verify", Judge.asked
        server.shutdown()
        thread.join()


def signed(key=SECRET, algorithm="HS256", **claims):
    return jwt.encode(claims, key, algorithm=algorithm)


def past(seconds):
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)


class TestTokens:
    async def test_are_not_needed_where_none_is_configured(self, checker):
        assert await checker.subject(None, None) is None
        assert await checker.subject(None, "whatever") is None

    @pytest.mark.parametrize("token", [None, ""])
    async def test_are_needed_where_one_is_configured(self, checker, token):
        with pytest.raises(AuthenticationError, match="needs an auth_token"):
            await checker.subject(AuthenticationConfig(secret=SECRET), token)

    async def test_signed_with_the_secret_pass_and_name_their_subject(self, checker):
        config = AuthenticationConfig(secret=SECRET)
        assert await checker.subject(config, signed(sub="ann", aud="anybody")) == "ann"
        assert await checker.subject(config, signed()) is None

    async def test_signed_with_the_private_key_pass(self, checker):
        config = AuthenticationConfig(pub_key=PUBLIC)
        assert await checker.subject(config, signed(PRIVATE, "RS256", sub="ann")) == "ann"

    async def test_signed_either_way_pass_when_both_are_configured(self, checker):
        config = AuthenticationConfig(secret=SECRET, pub_key=PUBLIC)
        assert await checker.subject(config, signed(sub="ann")) == "ann"
        assert await checker.subject(config, signed(PRIVATE, "RS256", sub="bob")) == "bob"

    async def test_signed_with_a_short_secret_pass_without_a_warning(self, checker):
        with pytest.warns(jwt.InsecureKeyLengthWarning):
            token = signed("abc")
        assert await checker.subject(AuthenticationConfig(secret="abc"), token) is None

    @pytest.mark.parametrize(
        "token",
        [
            "garbage",
            "a.b.c",
            signed("another secret, also of thirty-two bytes"),
            signed(SECRET, "HS512"),
            signed(exp=past(60)),
            signed(nbf=past(-6000)),
            jwt.encode({"sub": "ann"}, None, algorithm="none"),
        ],
    )
    async def test_that_are_not_signed_with_the_secret_and_in_time_are_refused(self, checker, token):
        with pytest.raises(AuthenticationError, match="not valid"):
            await checker.subject(AuthenticationConfig(secret=SECRET), token)

    async def test_cannot_pass_the_public_key_off_as_a_secret(self, checker):
        header, claims = (
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
            for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": "ann"})
        )
        import hashlib
        import hmac

        code = hmac.digest(PUBLIC.encode(), f"{header}.{claims}".encode(), hashlib.sha256)
        forged = f"{header}.{claims}.{base64.urlsafe_b64encode(code).rstrip(b'=').decode()}"
        with pytest.raises(AuthenticationError, match="not valid"):
            await checker.subject(AuthenticationConfig(pub_key=PUBLIC), forged)

    async def test_are_shown_to_the_endpoint_which_may_refuse_them(self, checker, judge):
        url, asked = judge
        config = AuthenticationConfig(endpoint=url)
        assert await checker.subject(config, "good one") is None
        assert asked == [{"auth_token": "good one"}]
        with pytest.raises(AuthenticationError, match="refused by the service"):
            await checker.subject(config, "bad one")

    async def test_are_shown_to_the_endpoint_only_when_their_signature_is_right(self, checker, judge):
        url, asked = judge
        with pytest.raises(AuthenticationError, match="not valid"):
            await checker.subject(AuthenticationConfig(endpoint=url, secret=SECRET), "good one")
        assert asked == []

    async def test_cannot_be_checked_while_the_endpoint_is_down(self, checker):
        with pytest.raises(OverloadedError, match="try again later"):
            await checker.subject(AuthenticationConfig(endpoint="http://127.0.0.1:9/verify"), "good one")
