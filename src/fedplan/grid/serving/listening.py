"""The socket on which a grid listens, and what must be so before it does."""

import logging
import socket
import ssl

from fedplan.errors import SettingsError
from fedplan.grid.addresses import is_loopback
from fedplan.grid.settings import Settings

logger = logging.getLogger(__name__)

_BACKLOG = 2048
"""Connections that may wait to be taken."""

_LEAST_TOKEN = 16
"""Characters of an owner token that others may try to guess."""


def listening(settings: Settings, host: str, port: int) -> socket.socket:
    """Listens on an address.

    Args:
        settings: of the grid.
        host: the address.
        port: its port; 0 takes any free one.

    Raises:
        OSError: the address cannot be listened on.
        SettingsError: other machines reach it, and there is no owner token; or the certificate cannot be
            used.
    """
    _check_tls(settings)
    listener = socket.create_server((host, port), family=_family(host), backlog=_BACKLOG)
    try:
        _check_reach(settings, host, listener)
    except BaseException:
        listener.close()
        raise
    return listener


def _check_reach(settings: Settings, host: str, listener: socket.socket) -> None:
    """Lets no grid be open to other machines by an oversight."""
    if is_loopback(listener.getsockname()[0]) or settings.insecure:
        return
    reach = f"at {host or '0.0.0.0'} other machines reach this grid, and"  # nosec B104  # words only
    if settings.owner_token is None:
        raise SettingsError(
            f"{reach} without an owner token each could host models and retrieve them: set "
            "FEDPLAN_OWNER_TOKEN, or start with --insecure if that is meant"
        )
    if len(settings.owner_token.get_secret_value()) < _LEAST_TOKEN:
        raise SettingsError(
            f"{reach} FEDPLAN_OWNER_TOKEN is short enough to be guessed: take one of {_LEAST_TOKEN} "
            "characters or more"
        )
    if settings.tls_cert is None:
        logger.warning(
            "other machines reach this grid over plain HTTP: tokens, models and reports can be read on the "
            "way, unless a proxy encrypts them, or the grid does with --tls-cert"
        )


def _check_tls(settings: Settings) -> None:
    """Looks whether the certificate can be used; uvicorn would ask the terminal for a key's password."""
    if settings.tls_cert is None and settings.tls_key is None:
        return
    if settings.tls_cert is None or settings.tls_key is None:
        raise SettingsError("TLS needs a certificate and its key: --tls-cert and --tls-key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert, settings.tls_key, lambda: ""
        )
    except OSError as error:
        why = error.strerror or str(error) or "they are no PEM, or the key has a password"
        raise SettingsError(
            f"the certificate '{settings.tls_cert}' with the key '{settings.tls_key}' cannot be used: {why}"
        ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
