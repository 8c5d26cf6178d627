"""Secrets as they are stored: encrypted under a key that stands somewhere else than they do."""

import base64
import binascii
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedplan.errors import SettingsError
from fedplan.grid.secrets.private import is_open_to_others, keep_folder_private
from fedplan.grid.settings import Settings

SEALED = "sealed:1:"
"""How what is sealed begins."""

_NONCE = 12  # bytes, for AES-GCM
_LEAST_KEY = 32  # characters
KEY_FILE = "grid.key"
"""In a grid's folder."""


class Seal:
    """Encrypts secrets under the first of its keys, and decrypts what any of them has encrypted.

    Without a key it leaves secrets as they are. AES-256-GCM; each secret is bound to what it is for.

    Args:
        keys: texts, long and random enough that nobody guesses them.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._ciphers = {_name(key): AESGCM(_derived(key, b"encryption")) for key in keys}

    @property
    def has_key(self) -> bool:
        """Whether it encrypts anything."""
        return bool(self._ciphers)

    def seal(self, secret: bytes, purpose: str) -> bytes:
        """A secret as it is stored."""
        if not self._ciphers:
            return secret
        name, cipher = next(iter(self._ciphers.items()))
        nonce = secrets.token_bytes(_NONCE)
        sealed = base64.urlsafe_b64encode(nonce + cipher.encrypt(nonce, secret, purpose.encode()))
        return f"{SEALED}{name}:".encode() + sealed

    def open(self, stored: bytes, purpose: str) -> bytes:
        """A secret that was stored, sealed or not.

        Raises:
            SettingsError: the key is not among these, or what is stored was changed.
        """
        if not stored.startswith(SEALED.encode()):
            return stored
        name, _, text = stored.removeprefix(SEALED.encode()).decode(errors="replace").partition(":")
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise SettingsError(
                "the secrets in this grid's database are encrypted under another key: give the grid the one "
                "that it had, as FEDPLAN_SECRET_KEY, FEDPLAN_SECRETKEY_FILE or the file "
                f"'{KEY_FILE}' in its folder"
            )
        try:
            raw = base64.urlsafe_b64decode(text)
            return cipher.decrypt(raw[:_NONCE], raw[_NONCE:], purpose.encode())
        except (InvalidTag, ValueError, binascii.Error):
            raise SettingsError(
                "a secret in this grid's database was changed by something else than a grid; restore a backup"
            ) from None

    def is_current(self, stored: bytes) -> bool:
        """Whether a secret is stored as `seal` would store it now."""
        if not self._ciphers:
            return True
        return stored.startswith(f"{SEALED}{next(iter(self._ciphers))}:".encode())


def _derived(key: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fedplan " + purpose).derive(key.encode())


def _name(key: str) -> str:
    """Tells a key from others, and nothing about it."""
    return _derived(key, b"name")[:6].hex()


def seal_of(settings: Settings) -> Seal:
    """The seal of a grid: its keys are in the environment, in a file, or in a file that is made for it.

    Raises:
        SettingsError: a key is too short, or a file cannot be read or can be read by others.
        OSError: the folder of the data cannot be used.
    """
    if settings.secret_key is not None:
        return Seal(_keys(settings.secret_key.get_secret_value(), "FEDPLAN_SECRET_KEY"))
    file = settings.secret_key_file
    if file is None and settings.database_url is None:
        keep_folder_private(settings.data_dir)
        file = settings.data_dir / KEY_FILE
        _make(file)
    if file is None:
        return Seal()
    try:
        text = file.read_text(encoding="utf-8")
        exposed = is_open_to_others(file)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(f"the key file '{file}' cannot be read: {why}") from None
    if exposed:
        raise SettingsError(f"the key file '{file}' can be read by other users: chmod 600 '{file}'")
    return Seal(_keys(text, f"the file '{file}'"))


def _keys(text: str, where: str) -> list[str]:
    keys = [key.strip() for key in text.split(",")]
    if any(len(key) < _LEAST_KEY for key in keys):
        raise SettingsError(
            f"{where} needs keys of at least {_LEAST_KEY} characters, such as `openssl rand -base64 32` "
            "makes; several are separated by commas"
        )
    return keys


def _make(file: Path) -> None:
    """Makes a key where there is none; of several processes that start at once, one wins."""
    if file.exists():
        return
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as made:
            made.write(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode() + "\n")
            made.flush()
            os.fsync(made.fileno())
        if not file.exists():
            os.link(unfinished, file)
    except FileExistsError:
        return  # another process has made it
    finally:
        unfinished.unlink(missing_ok=True)
