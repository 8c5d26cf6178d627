"""TLS of clients: which certificates they trust, and which they show."""

import functools
import os
import ssl

import httpx

from fedplan.errors import ConfigError

File = str | os.PathLike[str]


@functools.cache
def trusted() -> ssl.SSLContext:
    """For all clients of the process: certifi's certificates, or those that ``SSL_CERT_FILE`` names. They are
    read once, for reading them takes longer than many a request."""
    return httpx.create_ssl_context()


def showing(cert: File | None, key: File | None, ca: File | None) -> ssl.SSLContext:
    """For a client that shows a certificate of its own, or trusts an authority of its own.

    Args:
        cert: its certificate in PEM, with those of the authorities between; None to show none.
        key: the private key of the certificate, in PEM; None when it stands in the same file.
        ca: certificates in PEM of the authorities that it trusts; None for those of `trusted`.

    Raises:
        ConfigError: a file cannot be used, or there is a key without a certificate.
    """
    if key is not None and cert is None:
        raise ConfigError(
            f"the key '{key}' is of no use without its certificate: give that too, as client_cert (on the "
            "command line --client-cert)"
        )
    if cert is None and ca is None:
        return trusted()
    context = _trusting(ca)
    if cert is not None:
        try:
            context.load_cert_chain(cert, key, lambda: "")  # the terminal would be asked for a password
        except OSError as error:  # an SSLError is one
            files = f"the client certificate '{cert}'" + ("" if key is None else f" with the key '{key}'")
            raise ConfigError(f"{files} cannot be used: {_why_not(error, key)}") from None
    return context


def _trusting(ca: File | None) -> ssl.SSLContext:
    if ca is None:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        why = (not isinstance(error, ssl.SSLError) and error.strerror) or "it holds no certificate in PEM"
        raise ConfigError(f"the authorities in '{ca}' cannot be used: {why}") from None


def _why_not(error: OSError, key: File | None) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is that of another certificate"
    if error.reason in ("BAD_DECRYPT", "BAD_PASSWORD_READ"):
        return "the key has a password; write one without, which only you can read (openssl pkey)"
    if key is None:
        return (
            "it does not hold both the certificate and its key, in PEM (the key may be in a file of its own)"
        )
    return "they are no PEM, or the key has a password"
