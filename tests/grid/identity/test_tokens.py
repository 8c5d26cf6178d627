"""Workers' tokens, and the services that are asked about them: real ones, on sockets of this machine."""

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from fedplan.errors import AuthenticationError, OverloadedError
from fedplan.grid.identity.auth import TokenChecker
from fedplan.grid.identity.keysets import KeySets
from fedplan.grid.identity.tokens import Proof
from fedplan.wire.authentication import AuthenticationConfig
from tests.grid.clock import Clock
from tests.grid.identity.test_auth import CURVE, EDWARDS, PRIVATE, PUBLIC, SECRET, pem

HERE = "http://127.0.0.1"


@pytest.fixture
async def client():
    async with httpx.AsyncClient(timeout=5.0) as client:
        yield client


@pytest.fixture
def checker(client):
    return TokenChecker(client, 5.0, [])


class Service(http.server.BaseHTTPRequestHandler):
    """Takes tokens that begin with "good", and publishes keys; it remembers what it was asked."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        self.send_response(200 if body["auth_token"].startswith("good") else 403)
        self.end_headers()

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.published)

    def log_message(self, *args):
        pass


@pytest.fixture
def service():
    with http.server.HTTPServer(("127.0.0.1", 0), Service) as server:
        server.asked, server.status, server.published = [], 200, b""
        server.url = f"{HERE}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def signed(key=SECRET, algorithm="HS256", *, kid=None, **claims):
    held = {"exp": time.time() + 60} | claims
    told = {name: value for name, value in held.items() if value is not None}
    return jwt.encode(told, key, algorithm=algorithm, headers=None if kid is None else {"kid": kid})


async def expect_refusal(checker, why, config, token):
    with pytest.raises(AuthenticationError, match=f"auth_token is not valid: {why}"):
        await checker.check(config, token)


class TestTokens:
    async def test_are_not_needed_where_none_is_configured(self, checker):
        assert await checker.check(None, None) == Proof()
        assert await checker.check(None, "whatever") == Proof()

    @pytest.mark.parametrize("token", [None, ""])
    async def test_are_needed_where_one_is_configured(self, checker, token):
        with pytest.raises(AuthenticationError, match="needs an auth_token"):
            await checker.check(AuthenticationConfig(secret=SECRET), token)

    async def test_signed_with_the_secret_pass_and_name_their_subject_and_their_end(self, checker):
        config = AuthenticationConfig(secret=SECRET)
        end = int(time.time()) + 60
        assert await checker.check(config, signed(sub="ann", exp=end)) == Proof("ann", end)
        assert (await checker.check(config, signed())).subject is None

    @pytest.mark.parametrize(("key", "algorithm"), [(PRIVATE, "RS256"), (CURVE, "ES256"), (EDWARDS, "EdDSA")])
    async def test_signed_with_the_private_key_pass(self, checker, key, algorithm):
        config = AuthenticationConfig(pub_key=pem(key.public_key()))
        assert (await checker.check(config, signed(key, algorithm, sub="ann"))).subject == "ann"

    async def test_signed_either_way_pass_when_both_are_configured(self, checker):
        config = AuthenticationConfig(secret=SECRET, pub_key=PUBLIC)
        assert (await checker.check(config, signed(sub="ann"))).subject == "ann"
        assert (await checker.check(config, signed(PRIVATE, "RS256", sub="bob"))).subject == "bob"

    async def test_signed_with_a_short_secret_pass_without_a_warning(self, checker):
        with pytest.warns(jwt.InsecureKeyLengthWarning):
            token = signed("abc")
        assert (await checker.check(AuthenticationConfig(secret="abc"), token)).subject is None

    async def test_that_are_refused_are_told_why(self, checker):
        config = AuthenticationConfig(secret=SECRET, aud=["train", "try"], iss="https://id.example")
        good = {"aud": "train", "iss": "https://id.example"}
        assert await checker.check(config, signed(**good, sub="ann"))
        assert await checker.check(config, signed(**good | {"aud": ["other", "try"]}))
        another = "another secret, also of thirty-two bytes"
        for token, why in (
            ("garbage", "it is no JSON Web Token"),
            ("a.b.c", "it is no JSON Web Token"),
            (signed(another, **good), "its signature is wrong"),
            (signed(SECRET, "HS512", **good), "its signature is of another kind; this model takes HS256"),
            (jwt.encode(good, None, algorithm="none"), "its signature is of another kind"),
            (signed(**good, exp=time.time() - 60), r"its time is over \(exp\)"),
            (signed(**good, exp=None), r"it never expires, .* \(exp\)"),
            (signed(**good, nbf=time.time() + 6000), "its time has not come"),
            (signed(**good, iat=time.time() + 6000), "its time has not come"),
            (signed(**good | {"aud": "other"}), r"its audience \(aud\) is another"),
            (signed(**good | {"aud": None}), r"it does not say its audience \(aud\)"),
            (signed(**good | {"iss": "https://evil.example"}), r"its issuer \(iss\) is another"),
            (signed(**good | {"iss": None}), r"it does not say its issuer \(iss\)"),
        ):
            await expect_refusal(checker, why, config, token)

    async def test_for_an_audience_are_refused_where_the_model_names_none(self, checker):
        config = AuthenticationConfig(secret=SECRET)
        await expect_refusal(checker, r"its audience \(aud\) is another", config, signed(aud="a bank"))

    async def test_may_last_for_ever_where_the_model_says_so(self, checker):
        config = AuthenticationConfig(secret=SECRET, require_exp=False)
        assert await checker.check(config, signed(exp=None, sub="ann")) == Proof("ann")
        await expect_refusal(checker, "its time is over", config, signed(exp=time.time() - 60))

    async def test_are_judged_by_clocks_that_may_differ_by_seconds(self, checker):
        early = {"iat": time.time() + 10, "nbf": time.time() + 10}
        config = AuthenticationConfig(secret=SECRET)
        assert await checker.check(config, signed(**early))
        assert await checker.check(config, signed(exp=time.time() - 10))
        strict = AuthenticationConfig(secret=SECRET, leeway=2)
        await expect_refusal(checker, "its time has not come", strict, signed(**early))
        await expect_refusal(checker, "its time is over", strict, signed(exp=time.time() - 10))

    async def test_cannot_pass_the_public_key_off_as_a_secret(self, checker):
        header, claims = (
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
            for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": "ann", "exp": time.time() + 60})
        )
        code = hmac.digest(PUBLIC.encode(), f"{header}.{claims}".encode(), hashlib.sha256)
        forged = f"{header}.{claims}.{base64.urlsafe_b64encode(code).rstrip(b'=').decode()}"
        await expect_refusal(
            checker, "its signature is of another", AuthenticationConfig(pub_key=PUBLIC), forged
        )


class TestAnEndpoint:
    async def test_is_shown_tokens_and_may_refuse_them(self, client, service):
        checker, config = (
            TokenChecker(client, 5.0, [service.url]),
            AuthenticationConfig(endpoint=f"{service.url}/verify"),
        )
        assert await checker.check(config, "good one") == Proof()
        assert service.asked == [{"auth_token": "good one"}]
        with pytest.raises(AuthenticationError, match="refused by the service"):
            await checker.check(config, "bad one")

    async def test_is_shown_only_tokens_whose_signature_is_right(self, client, service):
        config = AuthenticationConfig(endpoint=f"{service.url}/verify", secret=SECRET)
        await expect_refusal(TokenChecker(client, 5.0, [service.url]), "it is no", config, "good one")
        assert service.asked == []

    async def test_that_is_down_is_told(self, client):
        config = AuthenticationConfig(endpoint=f"{HERE}:9/verify")
        with pytest.raises(OverloadedError, match="try again later"):
            await TokenChecker(client, 5.0, [f"{HERE}:9"]).check(config, "good one")

    async def test_is_not_asked_where_the_operator_does_not_allow_it_any_more(self, client, service):
        """And whether anything listens there is not told."""
        for url in (f"{service.url}/verify", f"{HERE}:9/verify"):
            for config in (AuthenticationConfig(endpoint=url), AuthenticationConfig(jwks_url=url)):
                with pytest.raises(AuthenticationError, match="FEDPLAN_AUTH_ENDPOINTS"):
                    await TokenChecker(client, 5.0, [f"{service.url}/other"]).check(config, signed())
        assert service.asked == []


def jwk(key, **more):
    kinds = (
        (rsa.RSAPrivateKey, jwt.algorithms.RSAAlgorithm),
        (type(CURVE), jwt.algorithms.ECAlgorithm),
        (type(EDWARDS), jwt.algorithms.OKPAlgorithm),
    )
    kind = next(algorithm for made, algorithm in kinds if isinstance(key, made))
    return kind.to_jwk(key.public_key(), as_dict=True) | more


def published(*keys):
    return json.dumps({"keys": keys}).encode()


class TestASetOfKeys:
    @pytest.fixture
    def clock(self):
        return Clock()

    @pytest.fixture
    def checker(self, client, service, clock):
        checker = TokenChecker(client, 5.0, [service.url])
        checker._sets = KeySets(client, 5.0, clock)
        return checker

    @pytest.fixture
    def config(self, service):
        return AuthenticationConfig(jwks_url=f"{service.url}/keys")

    @pytest.mark.parametrize(("key", "algorithm"), [(PRIVATE, "RS256"), (CURVE, "ES256"), (EDWARDS, "EdDSA")])
    @pytest.mark.parametrize("kid", [None, "a"])
    async def test_checks_tokens_and_is_fetched_once(self, checker, service, config, key, algorithm, kid):
        service.published = published(*(jwk(each, kid=id) for each, id in ((PRIVATE, "x"), (CURVE, "y"))))
        if kid is None:
            service.published = published(jwk(PRIVATE), jwk(CURVE), jwk(EDWARDS))
        else:
            service.published = published(jwk(key, kid="a", use="sig"), jwk(PRIVATE, kid="b"))
        for _ in range(3):
            proof = await checker.check(config, signed(key, algorithm, kid=kid, sub="ann"))
            assert proof.subject == "ann"
        assert service.asked == ["/keys"]

    async def test_that_has_changed_is_fetched_again_but_not_for_every_name_that_is_made_up(
        self, checker, service, config, clock
    ):
        service.published = published(jwk(CURVE, kid="old"))
        assert await checker.check(config, signed(CURVE, "ES256", kid="old"))
        service.published = published(jwk(PRIVATE, kid="new"))
        fresh = signed(PRIVATE, "RS256", kid="new")
        await expect_refusal(checker, r"it names a key \(kid\)", config, fresh)  # too soon after the last
        clock.now += 11
        assert await checker.check(config, fresh)
        for n in range(20):
            made_up = signed(CURVE, "ES256", kid=f"made up {n}")
            await expect_refusal(checker, r"it names a key \(kid\)", config, made_up)
        assert len(service.asked) == 2
        await expect_refusal(checker, r"it names a key \(kid\)", config, signed(CURVE, "ES256", kid="old"))

    async def test_is_used_for_an_hour_while_its_service_is_away(self, checker, service, config, clock):
        service.published = published(jwk(CURVE))
        token = signed(CURVE, "ES256")
        assert await checker.check(config, token)
        service.status = 500
        clock.now += 1000
        assert await checker.check(config, token)
        assert len(service.asked) == 2
        clock.now += 3000
        with pytest.raises(OverloadedError, match="did not answer"):
            await checker.check(config, token)
        service.status = 200
        clock.now += 11
        assert await checker.check(config, token)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b'{"keys": 5}',
            b'{"keys": [5, {}, {"kty": "RSA"}]}',
            b"[" * 100_000,
            b" " * 300_000,
            published({"kty": "oct", "k": "c2VjcmV0"}),
            published(jwk(CURVE, use="enc")),
            published(jwk(CURVE, alg="ES512")),
        ],
    )
    async def test_that_holds_no_key_for_tokens_checks_nothing(self, checker, service, config, body):
        service.published = body
        with pytest.raises(OverloadedError, match="did not answer"):
            await checker.check(config, signed(CURVE, "ES256"))

    async def test_is_not_looked_for_where_it_was_moved_to(self, checker, service, config):
        service.status, service.published = 302, published(jwk(CURVE))
        with pytest.raises(OverloadedError):
            await checker.check(config, signed(CURVE, "ES256"))
        assert service.asked == ["/keys"]
