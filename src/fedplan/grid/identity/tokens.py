"""Workers' tokens: which keys check them, and what a good one says."""

import dataclasses
import functools
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fedplan.errors import AuthenticationError
from fedplan.wire.authentication import AuthenticationConfig


@dataclasses.dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a worker whose token is good.

    Attributes:
        subject: whom it names (the `sub` claim), if it names anybody.
        expires: until when it holds, in seconds since 1970; None when it does not say.
    """

    subject: str | None = None
    expires: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """A key with which tokens are checked.

    Attributes:
        value: a secret, or a public key of `cryptography`.
        algorithm: the only one that it checks: a token must never choose how it is checked.
        id: by which tokens name it (`kid`), where it stands in a set.
    """

    value: Any
    algorithm: str
    id: str | None = None


def secret_key(secret: str) -> Key:
    """The key of tokens that are signed with a shared secret."""
    return Key(secret, "HS256")


@functools.lru_cache(maxsize=1000)
def public_key(pem: str) -> Key:
    """The key that a PEM holds.

    Raises:
        ValueError: it holds none of RSA, P-256 or Ed25519.
    """
    return _checked(load_pem_public_key(pem.encode()), None)


def key_of_set(jwk: Mapping[str, Any]) -> Key | None:
    """A key as it stands in a JSON Web Key Set (RFC 7517); None when it does not check workers' tokens."""
    if jwk.get("use", "sig") != "sig" or jwk.get("kty") not in ("RSA", "EC", "OKP"):
        return None  # a shared secret in a set that everybody may read is none
    try:
        read = jwt.PyJWK(dict(jwk), _algorithm_of(jwk)).key
        key = _checked(read, jwk.get("kid") if isinstance(jwk.get("kid"), str) else None)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return key if jwk.get("alg", key.algorithm) == key.algorithm else None


def _algorithm_of(jwk: Mapping[str, Any]) -> str:
    return {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}[jwk["kty"]]


def _checked(key: object, id: str | None) -> Key:
    if isinstance(key, RSAPublicKey):
        return Key(key, "RS256", id)
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return Key(key, "ES256", id)
    if isinstance(key, Ed25519PublicKey):
        return Key(key, "EdDSA", id)
    raise ValueError("it is no public key of RSA, P-256 or Ed25519")


def key_id(token: str) -> str | None:
    """By which name a token calls its key; it is not checked yet.

    Raises:
        AuthenticationError: it is no token.
    """
    try:
        id = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _invalid("it is no JSON Web Token") from None
    return id if isinstance(id, str) else None


def check_token(token: str, keys: Iterable[Key], config: AuthenticationConfig) -> Proof:
    """What a token says that one of the keys has signed.

    Raises:
        AuthenticationError: none has, or its time, audience or issuer is wrong; the message says which.
    """
    why, algorithms = "", set[str]()
    for key in keys:
        algorithms.add(key.algorithm)
        try:
            return _proof(_claims(token, key, config))
        except jwt.InvalidSignatureError:
            why = "its signature is wrong: another key has made it"
        except (jwt.InvalidAlgorithmError, jwt.InvalidKeyError):
            continue
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise _invalid(_reason(error, config)) from None
    if not algorithms:
        raise _invalid("it names a key (kid) that is not in this model's set")
    raise _invalid(
        why or f"its signature is of another kind; this model takes {', '.join(sorted(algorithms))}"
    )


def _claims(token: str, key: Key, config: AuthenticationConfig) -> dict[str, Any]:
    with warnings.catch_warnings():  # a short secret is the owner's choice, and was logged at hosting
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        return jwt.decode(
            token,
            key.value,
            algorithms=[key.algorithm],
            audience=config.aud,
            issuer=config.iss,
            leeway=config.leeway,
            options={"require": ["exp"] if config.require_exp else []},
        )


def _proof(claims: Mapping[str, Any]) -> Proof:
    subject, expires = claims.get("sub"), claims.get("exp")
    return Proof(None if subject is None else str(subject), None if expires is None else float(expires))


def _reason(error: Exception, config: AuthenticationConfig) -> str:
    match error:
        case jwt.ExpiredSignatureError():
            return "its time is over (exp)"
        case jwt.ImmatureSignatureError():
            return "its time has not come (nbf, iat), or a clock is wrong"
        case jwt.InvalidAudienceError() if config.aud is None:
            return "its audience (aud) is another: the model's authentication names none ('aud')"
        case jwt.InvalidAudienceError():
            return "its audience (aud) is another than this model's"
        case jwt.InvalidIssuerError():
            return "its issuer (iss) is another than this model's"
        case jwt.MissingRequiredClaimError(claim="exp"):
            return "it never expires, and this model takes only tokens that do (exp)"
        case jwt.MissingRequiredClaimError(claim=("aud" | "iss") as claim):
            return f"it does not say its {'audience' if claim == 'aud' else 'issuer'} ({claim})"
        case _:
            return "it is no JSON Web Token, or one of its claims is of a wrong kind"


def _invalid(why: str) -> AuthenticationError:
    return AuthenticationError(f"the auth_token is not valid: {why}")
