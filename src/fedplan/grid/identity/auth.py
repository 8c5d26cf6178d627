"""Who is who: worker ids, request keys, workers' tokens, and the owner's token."""

import asyncio
import base64
import dataclasses
import hashlib
import hmac
import logging
import math
import secrets
from collections.abc import Callable, Collection

import httpx
import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from fedplan.errors import AuthenticationError, ConfigError, OverloadedError, SettingsError
from fedplan.grid.addresses import is_below, web_address
from fedplan.grid.identity.keysets import KeySets
from fedplan.grid.identity.tokens import Key, Proof, check_token, key_id, public_key, secret_key
from fedplan.grid.secrets.sealing import SEALED
from fedplan.wire.authentication import AuthenticationConfig

logger = logging.getLogger(__name__)

# Bytes of a worker id; a multiple of three in all, so that its base64 needs no padding.
_NONCE, _PROCESS, _EXPIRES, _IDENTITY, _MAC = 9, 8, 5, 16, 16

_LATEST = 2 ** (8 * _EXPIRES) - 1

_WORKER = b"worker, expiring"
"""What the code of a worker id is made for; those of older grids, which never expire, are none any more."""

_KEY = 32  # bytes of a request key

_SAFE_SECRET_BYTES = 32  # RFC 7518, section 3.2
_LEAST_SECRET_BYTES = 16
"""The example of PyGrid's documentation has 27."""


@dataclasses.dataclass(frozen=True, slots=True)
class Worker:
    """What a worker id says.

    Attributes:
        process_id: the FL process that it authenticated for.
        identity: the same for all ids of one subject, of a token or a certificate; where there is none, one
            per id.
        expires: until when it may ask for places, in whole seconds since 1970.
    """

    process_id: int
    identity: str
    expires: int


class WorkerIds:
    """Makes and reads worker ids.

    A worker id is a random text that carries its own proof: which FL process it was given for, until when,
    and a code over this that only the grid can make. So authenticating writes nothing, any replica knows
    every worker, and an id that was made up is found out.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, process_id: int, subject: str | None, expires: float) -> str:
        """A new worker id.

        Args:
            process_id: the FL process that the worker authenticated for.
            subject: whom its certificate or its token names, if that names anybody.
            expires: until when it may ask for places, in seconds since 1970.
        """
        who = secrets.token_bytes(_IDENTITY) if subject is None else self._who(process_id, subject)
        until = max(0, math.ceil(min(expires, _LATEST))).to_bytes(_EXPIRES, "big")
        body = secrets.token_bytes(_NONCE) + process_id.to_bytes(_PROCESS, "big") + until + who
        return _text(body + self._code(_WORKER, body))

    def read(self, worker_id: str) -> Worker:
        """What a worker id says.

        Raises:
            AuthenticationError: this grid did not give it out.
        """
        try:
            raw = base64.b64decode(worker_id, b"-_", validate=True)
        except ValueError:
            raw = b""
        body, code = raw[:-_MAC], raw[-_MAC:]
        genuine = hmac.compare_digest(code, self._code(_WORKER, body))
        as_given_out = _text(raw) == worker_id  # lenient decoders would let one worker have several ids
        if not genuine or not as_given_out or len(body) != _NONCE + _PROCESS + _EXPIRES + _IDENTITY:
            raise AuthenticationError("the worker_id is not one that this grid gave out; authenticate first")
        at = _NONCE + _PROCESS
        process_id, until = body[_NONCE:at], body[at : at + _EXPIRES]
        identity = body[at + _EXPIRES :].hex()
        return Worker(int.from_bytes(process_id, "big"), identity, int.from_bytes(until, "big"))

    def is_of(self, worker: Worker, subject: str) -> bool:
        """Whether a worker id was given to a subject."""
        return hmac.compare_digest(worker.identity, self._who(worker.process_id, subject).hex())

    def request_key(self, worker_id: str, cycle_id: int, grant: int) -> str:
        """The request key of a place in a cycle: 256 bits that only this grid can know.

        It is the same whenever the worker asks again, since the answer may have been lost.

        Args:
            worker_id: the worker.
            cycle_id: the cycle.
            grant: how often the place was given to the worker; a key does not come back with its place.
        """
        place = cycle_id.to_bytes(_PROCESS, "big") + grant.to_bytes(_PROCESS, "big") + worker_id.encode()
        code = hashlib.blake2b(place, key=self._secret, person=b"request key").digest()[:_KEY]
        return _text(code).rstrip("=")

    def _who(self, process_id: int, subject: str) -> bytes:
        name = subject.encode(errors="surrogatepass")  # JSON may hold halves of characters
        return self._code(b"subject", process_id.to_bytes(_PROCESS, "big") + name)

    def _code(self, purpose: bytes, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._secret, digest_size=_MAC, person=purpose).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()


def key_digest(request_key: str) -> str:
    """What is stored of a request key, and by which it is looked up.

    Nobody learns a key from the store, nor from how long a lookup of a guess takes.
    """
    return hashlib.sha256(request_key.encode()).hexdigest()


def is_same(given: str, expected: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode(), expected.encode())


def check_authentication(config: AuthenticationConfig, allowed: Collection[str]) -> None:
    """Checks that tokens can be checked with a configuration. Nothing is asked for that.

    Args:
        config: a model's.
        allowed: how the addresses begin that the grid's operator lets it ask.

    Raises:
        ConfigError: the public key is none that checks tokens, or an address is no http(s) URL or not
            allowed.
    """
    if config.pub_key is not None:
        try:
            public_key(config.pub_key)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigError(
                "server_config: 'authentication.pub_key' is not a public key of RSA, P-256 or Ed25519 in PEM"
            ) from None
    for name, url in (("endpoint", config.endpoint), ("jwks_url", config.jwks_url)):
        if url is None:
            continue
        if web_address(url) is None:
            raise ConfigError(f"server_config: 'authentication.{name}' is not an http or https URL")
        if not is_below(url, allowed):
            raise ConfigError(
                f"server_config: 'authentication.{name}' is an address that this grid is not allowed to ask; "
                "its operator can allow it with FEDPLAN_AUTH_ENDPOINTS (--auth-endpoints)"
            )
    if config.secret is not None:
        _check_secret(config.secret)


def _check_secret(secret: str) -> None:
    if secret.startswith(SEALED):
        raise ConfigError(
            f"server_config: 'authentication.secret' begins with '{SEALED}', by which the grid knows what it "
            "has encrypted itself; choose another"
        )
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(secret)
    except jwt.InvalidKeyError:
        raise ConfigError(
            "server_config: 'authentication.secret' is a key of another kind; give a public key as 'pub_key'"
        ) from None
    if len(secret.encode()) < _LEAST_SECRET_BYTES:
        raise ConfigError(
            f"server_config: 'authentication.secret' has {len(secret.encode())} bytes, so whoever sees a "
            f"token can guess it and make others: take {_SAFE_SECRET_BYTES} random bytes, and "
            f"{_LEAST_SECRET_BYTES} at least"
        )
    if len(secret.encode()) < _SAFE_SECRET_BYTES:
        logger.warning("a model is hosted with a token secret that is short enough to be guessed")


class TokenChecker:
    """Checks workers' tokens against a model's configuration.

    Args:
        client: asks the endpoints that models name. It must not follow redirects: they would lead the grid on
            to places that its operator has not allowed.
        seconds: how long an endpoint may take.
        allowed: how the addresses begin that may be asked.
        secret_of: a secret of HS256 by what the stored configuration holds of it.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        seconds: float,
        allowed: Collection[str],
        secret_of: Callable[[str], str] = str,
    ) -> None:
        self._client = client
        self._seconds = seconds
        self._allowed = allowed
        self._secret_of = secret_of
        self._sets = KeySets(client, seconds)

    async def check(self, config: AuthenticationConfig | None, token: str | None) -> Proof:
        """Checks a token and returns whom it names.

        It must be signed with one of the keys that the model names; then the endpoint, if the model names
        one, must answer it with a 2xx status.

        Raises:
            AuthenticationError: no token, or a wrong one.
            OverloadedError: a service that is needed for it did not answer.
        """
        if config is None or not config.asks_token:
            return Proof()
        if not token:
            raise AuthenticationError("this model needs an auth_token; get one from the model's owner")
        proof = Proof()
        if config.has_keys:
            proof = check_token(token, await self._keys(config, key_id(token)), config)
        if config.endpoint:
            await self._ask(self._permitted(config.endpoint), token)
        return proof

    async def _keys(self, config: AuthenticationConfig, id: str | None) -> list[Key]:
        keys = [] if config.secret is None else [secret_key(self._opened(config.secret))]
        if config.pub_key is not None:
            keys.append(public_key(config.pub_key))
        if config.jwks_url is not None:
            keys.extend(await self._sets.keys(self._permitted(config.jwks_url), id))
        return keys

    def _opened(self, stored: str) -> str:
        try:
            return self._secret_of(stored)
        except SettingsError as error:  # another replica has another key
            logger.error("a model's secret cannot be read: %s", error)
            raise OverloadedError("the grid cannot check this model's tokens at present; try later") from None

    def _permitted(self, url: str) -> str:
        """An address, if it may be asked: that may have changed since the model was hosted."""
        if not is_below(url, self._allowed):
            raise AuthenticationError(
                "this model's tokens are checked by a service that this grid is not allowed to ask; tell the "
                "model's owner (FEDPLAN_AUTH_ENDPOINTS)"
            )
        return url

    async def _ask(self, endpoint: str, token: str) -> None:
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._client.stream("POST", endpoint, json={"auth_token": token}) as answer,
            ):
                accepted = answer.is_success  # the status says it all; a body could be endless
        except (httpx.HTTPError, TimeoutError):
            raise OverloadedError(
                "the service that checks this model's tokens did not answer; try again later"
            ) from None
        if not accepted:
            raise AuthenticationError("the auth_token was refused by the service that checks them")
