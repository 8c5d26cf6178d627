import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import AuthenticationError, ConfigError
from fedplan.grid.identity.auth import WorkerIds, check_authentication, key_digest
from fedplan.wire.authentication import AuthenticationConfig

SECRET = "a secret of at least sixty-four bytes, so that it does for HS512 too"
IDS = WorkerIds(b"k" * 32)


def pem(key):
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = pem(PRIVATE.public_key())
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()


class TestWorkerIds:
    def test_say_for_which_model_they_were_given(self):
        assert IDS.read(IDS.issue(7, None, 5)).process_id == 7

    @pytest.mark.parametrize(("given", "kept"), [(0, 0), (5.1, 6), (1_800_000_000, 1_800_000_000), (-1, 0)])
    def test_say_until_when_they_hold(self, given, kept):
        assert IDS.read(IDS.issue(1, "ann", given)).expires == kept
        assert IDS.read(IDS.issue(1, None, 1e300)).expires > 1e12

    def test_are_different_each_time(self):
        assert len({IDS.issue(1, "ann", 5) for _ in range(100)}) == 100

    def test_of_one_subject_have_one_identity_which_does_not_tell_the_subject(self):
        ann, again = IDS.issue(1, "ann", 5), IDS.issue(1, "ann", 5)
        assert IDS.read(ann).identity == IDS.read(again).identity
        assert IDS.read(ann).identity != IDS.read(IDS.issue(1, "bob", 5)).identity
        assert IDS.read(ann).identity != IDS.read(IDS.issue(2, "ann", 5)).identity
        assert "ann" not in ann

    def test_without_a_subject_have_each_their_own_identity(self):
        assert IDS.read(IDS.issue(1, None, 5)).identity != IDS.read(IDS.issue(1, None, 5)).identity

    def test_are_known_by_every_replica_with_the_same_secret_and_by_no_other_grid(self):
        worker_id = IDS.issue(1, None, 5)
        assert WorkerIds(b"k" * 32).read(worker_id) == IDS.read(worker_id)
        with pytest.raises(AuthenticationError, match="not one that this grid gave out"):
            WorkerIds(b"j" * 32).read(worker_id)

    @given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
    def test_that_were_made_up_are_refused(self, worker_id):
        with pytest.raises(AuthenticationError):
            IDS.read(worker_id)

    @given(st.integers(0, 72), st.sampled_from("abcXYZ019-_"))
    def test_that_were_changed_are_refused(self, at, letter):
        worker_id = IDS.issue(1, None, 5)
        for changed in (worker_id[:at] + letter + worker_id[at + 1 :], worker_id + "=", worker_id[:-1]):
            if changed != worker_id:
                with pytest.raises(AuthenticationError):
                    IDS.read(changed)


def test_request_keys_are_long_texts_of_which_only_a_digest_is_kept():
    ids = WorkerIds(b"s" * 32)
    worker = ids.issue(1, None, 5)
    keys = {ids.request_key(worker, cycle, grant) for cycle in range(10) for grant in range(10)}
    assert len(keys | {ids.request_key(ids.issue(1, None, 5), 0, 0)}) == 101
    assert all(len(key) == 43 for key in keys)
    assert ids.request_key(worker, 3, 1) in keys  # the same for who asks again
    assert WorkerIds(b"t" * 32).request_key(worker, 3, 1) not in keys
    digests = {key_digest(key) for key in keys}
    assert len(digests) == 100
    assert all(len(digest) == 64 for digest in digests)


class TestAnAuthenticationConfiguration:
    @pytest.mark.parametrize(
        "keys",
        [
            {"secret": SECRET},
            *({"pub_key": pem(key.public_key())} for key in (PRIVATE, CURVE, EDWARDS)),
            {"endpoint": "https://a.example/x"},
            {"jwks_url": "https://a.example/keys"},
        ],
    )
    def test_that_can_check_tokens_passes(self, keys):
        check_authentication(AuthenticationConfig(**keys), ["https://a.example"])

    @pytest.mark.parametrize(
        "key",
        [
            "not a key",
            PUBLIC[:100],
            pem(ec.generate_private_key(ec.SECP384R1()).public_key()),
            pem(x25519.X25519PrivateKey.generate().public_key()),
            "ssh-rsa x",
        ],
        ids=["not a key", "half of one", "one of another curve", "one that signs nothing", "one of SSH"],
    )
    def test_needs_a_public_key_in_pem(self, key):
        with pytest.raises(ConfigError, match="pub_key"):
            check_authentication(AuthenticationConfig(pub_key=key), [])

    @pytest.mark.parametrize("url", ["ftp://a.example", "a.example/x", "http://", "http://[", "http://a:b"])
    def test_needs_a_web_address(self, url):
        with pytest.raises(ConfigError, match=r"endpoint' is not an http or https URL"):
            check_authentication(AuthenticationConfig(endpoint=url), [url])

    @pytest.mark.parametrize("url", ["http://\0/", "http://é..x/", f"http://{'a' * 300}/", "http://x:99999/"])
    def test_needs_an_address_that_can_be_asked(self, url):
        with pytest.raises(ConfigError, match="endpoint"):
            check_authentication(AuthenticationConfig(endpoint=url), [url])

    def test_with_a_public_key_as_the_secret_checks_nothing(self):
        key = "-----BEGIN PUBLIC KEY-----\nMFwwDQ==\n-----END PUBLIC KEY-----"
        with pytest.raises(ConfigError, match="secret"):
            check_authentication(AuthenticationConfig(secret=key), [])

    @pytest.mark.parametrize("name", ["endpoint", "jwks_url"])
    @pytest.mark.parametrize("allowed", [[], ["https://auth.example"], ["http://10.0.0.1"]])
    def test_needs_an_address_that_the_operator_allows(self, name, allowed):
        config = AuthenticationConfig(**{name: "http://10.0.0.1:8500/v1/kv"})
        with pytest.raises(ConfigError, match=rf"authentication.{name}' .* FEDPLAN_AUTH_ENDPOINTS"):
            check_authentication(config, allowed)

    def test_with_a_short_secret_is_taken_with_a_warning_that_does_not_tell_it(self, caplog):
        check_authentication(AuthenticationConfig(secret="hunter2" * 3), [])
        assert "short" in caplog.text
        assert "hunter2" not in caplog.text

    def test_with_a_secret_that_is_easily_guessed_is_refused_and_does_not_tell_it(self):
        with pytest.raises(ConfigError, match=r"'authentication\.secret' has 7 bytes") as refused:
            check_authentication(AuthenticationConfig(secret="hunter2"), [])
        assert "hunter2" not in str(refused.value)
