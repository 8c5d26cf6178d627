"""Who is who: worker ids, request keys, workers' tokens, and the owner's token."""

import asyncio
import base64
import dataclasses
import hashlib
import hmac
import logging
import secrets
import warnings
from typing import Any

import httpx
import jwt

from fedplan.errors import AuthenticationError, ConfigError, OverloadedError
from fedplan.grid.addresses import web_address
from fedplan.wire.config import AuthenticationConfig

logger = logging.getLogger(__name__)

# Bytes of a worker id; a multiple of three in all, so that its base64 needs no padding.
_NONCE, _PROCESS, _IDENTITY, _MAC = 14, 8, 16, 16

_KEY = 32  # bytes of a request key

_SAFE_SECRET_BYTES = 32  # RFC 7518, section 3.2

# Fixed here: a token must never choose how it is checked.
_SECRET_ALGORITHMS = ["HS256"]
_KEY_ALGORITHMS = ["RS256"]


@dataclasses.dataclass(frozen=True, slots=True)
class Worker:
    """What a worker id says.

    Attributes:
        process_id: the FL process that it authenticated for.
        identity: the same for all ids of one token subject; where tokens name no subject, one per id.
    """

    process_id: int
    identity: str


class WorkerIds:
    """Makes and reads worker ids.

    A worker id is a random text that carries its own proof: which FL process it was given for, and a code
    over this that only the grid can make. So authenticating writes nothing, any replica knows every worker,
    and an id that was made up is found out.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, process_id: int, subject: str | None) -> str:
        """A new worker id.

        Args:
            process_id: the FL process that the worker authenticated for.
            subject: whom its token names (the `sub` claim), if it names anybody.
        """
        who = secrets.token_bytes(_IDENTITY)
        if subject is not None:
            name = subject.encode(errors="surrogatepass")  # JSON may hold halves of characters
            who = self._code(b"subject", process_id.to_bytes(_PROCESS, "big") + name)
        body = secrets.token_bytes(_NONCE) + process_id.to_bytes(_PROCESS, "big") + who
        return _text(body + self._code(b"worker", body))

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
        genuine = hmac.compare_digest(code, self._code(b"worker", body))
        as_given_out = _text(raw) == worker_id  # lenient decoders would let one worker have several ids
        if not genuine or not as_given_out or len(body) != _NONCE + _PROCESS + _IDENTITY:
            raise AuthenticationError("the worker_id is not one that this grid gave out; authenticate first")
        identity = body[_NONCE + _PROCESS :].hex()
        return Worker(int.from_bytes(body[_NONCE : _NONCE + _PROCESS], "big"), identity)

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


def check_authentication(config: AuthenticationConfig) -> None:
    """Checks that tokens can be checked with a configuration.

    Raises:
        ConfigError: the public key is not an RSA key in PEM, or the endpoint is not an http(s) URL.
    """
    if config.pub_key is not None:
        try:
            jwt.get_algorithm_by_name("RS256").prepare_key(config.pub_key)
        except (jwt.InvalidKeyError, ValueError, TypeError):
            raise ConfigError("server_config: 'authentication.pub_key' is not an RSA key in PEM") from None
    if config.endpoint is not None and web_address(config.endpoint) is None:
        raise ConfigError("server_config: 'authentication.endpoint' is not an http or https URL")
    if config.secret is not None:
        _check_secret(config.secret)


def _check_secret(secret: str) -> None:
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(secret)
    except jwt.InvalidKeyError:
        raise ConfigError(
            "server_config: 'authentication.secret' is a key of another kind; give a public key as 'pub_key'"
        ) from None
    if len(secret.encode()) < _SAFE_SECRET_BYTES:
        logger.warning("a model is hosted with a token secret that is short enough to be guessed")


class TokenChecker:
    """Checks workers' tokens against a model's configuration.

    Args:
        client: asks the endpoints that models name. It must not follow redirects: they would lead the grid on
            to places that no owner of a model named.
        seconds: how long an endpoint may take.
    """

    def __init__(self, client: httpx.AsyncClient, seconds: float) -> None:
        self._client = client
        self._seconds = seconds

    async def subject(self, config: AuthenticationConfig | None, token: str | None) -> str | None:
        """Checks a token and returns whom it names (its `sub` claim).

        It must be signed with the secret, or by the key, whichever the model names (either, when it names
        both); then the endpoint, if the model names one, must answer it with a 2xx status.

        Raises:
            AuthenticationError: no token, or a wrong one.
            OverloadedError: the endpoint did not answer.
        """
        if config is None:
            return None
        if not token:
            raise AuthenticationError("this model needs an auth_token; get one from the model's owner")
        subject = _signed_subject(config, token) if config.secret or config.pub_key else None
        if config.endpoint:
            await self._ask(config.endpoint, token)
        return subject

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


def _signed_subject(config: AuthenticationConfig, token: str) -> str | None:
    for key, algorithms in ((config.secret, _SECRET_ALGORITHMS), (config.pub_key, _KEY_ALGORITHMS)):
        if not key:
            continue
        try:
            claims = _claims(token, key, algorithms)
        except jwt.PyJWTError:
            continue
        subject = claims.get("sub")
        return None if subject is None else str(subject)
    raise AuthenticationError("the auth_token is not valid: its signature or its dates are wrong")


def _claims(token: str, key: str, algorithms: list[str]) -> dict[str, Any]:
    with warnings.catch_warnings():  # a short secret is the owner's choice, and was logged at hosting
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        return jwt.decode(token, key, algorithms=algorithms, options={"verify_aud": False})
