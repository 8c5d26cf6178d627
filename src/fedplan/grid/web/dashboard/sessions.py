"""Who is signed in, and that a form was filled in on a page of the grid.

The cookie holds the token itself, encrypted and authenticated under a key of the grid that all replicas have,
with the time until which it holds. The token is looked up at each request, as one in a header is, so revoking
it ends the session.
"""

import base64
import binascii
import dataclasses
import hashlib
import hmac
import json

from fastapi import Request, Response

from fedplan.errors import AccessDeniedError, SettingsError
from fedplan.grid.grid import Grid
from fedplan.grid.identity.auth import is_same
from fedplan.grid.secrets.sealing import Seal
from fedplan.grid.web.callers import Caller

COOKIE = "fedplan_session"

SESSION_SECONDS = 12 * 3600.0

FORM_FIELD = "form"
"""The field of each form that tells that the grid made it, for this session."""

_PURPOSE = "session of the dashboard"
_FORWARDED_PROTO = "x-forwarded-proto"
_ALLOWED_SITES = ("same-origin", "none")


def start_session(grid: Grid, request: Request, response: Response, token: str) -> None:
    """Signs a visitor in: it shows this token from now on.

    Browsers send it over TLS alone where a proxy says that they came so; who lies about that harms itself.
    The cookie has no path of its own, so browsers take the folder of the page that sets it: that of the grid.
    """
    held = json.dumps({"token": token, "until": grid.clock.wall() + SESSION_SECONDS})
    sealed = _seal(grid).seal(held.encode(), _PURPOSE)
    response.set_cookie(
        COOKIE,
        base64.urlsafe_b64encode(sealed).decode().rstrip("="),
        max_age=int(SESSION_SECONDS),
        path=None,
        secure="https" in (request.url.scheme, request.headers.get(_FORWARDED_PROTO)),
        httponly=True,
        samesite="strict",
    )


def end_session(response: Response) -> None:
    """Signs a visitor out."""
    response.set_cookie(COOKIE, "", max_age=0, path=None, httponly=True, samesite="strict")


def caller_of(grid: Grid, request: Request) -> Caller:
    """Who asks: by a token in the header, or else by the session's."""
    caller = Caller.of(request.headers)
    if caller.token is not None:
        return caller
    return dataclasses.replace(caller, token=_token_of(grid, request.cookies.get(COOKIE)))


def _token_of(grid: Grid, cookie: str | None) -> str | None:
    """The token in a cookie; None when it is no cookie of this grid, or holds no more."""
    if not cookie:
        return None
    try:
        sealed = base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4))
        if not _seal(grid).is_current(sealed):  # what is not sealed would be opened as it is
            return None
        held = json.loads(_seal(grid).open(sealed, _PURPOSE))
    except (SettingsError, ValueError, binascii.Error):
        return None
    return str(held["token"]) if grid.clock.wall() < held["until"] else None


def form_token(grid: Grid, request: Request) -> str:
    """What each form of a session holds, and no page from elsewhere knows."""
    key = hashlib.sha256(b"forms of the dashboard" + grid.store.secret).digest()
    session = request.cookies.get(COOKIE, "")
    return hmac.new(key, session.encode(errors="replace"), hashlib.sha256).hexdigest()


def check_form(grid: Grid, request: Request, token: str) -> None:
    """Lets only forms pass that were sent from a page of the grid, in the session in which it was made.

    Raises:
        AccessDeniedError: it was sent from elsewhere.
    """
    site = request.headers.get("sec-fetch-site")
    is_foreign = Caller.of(request.headers).is_foreign_page if site is None else site not in _ALLOWED_SITES
    if is_foreign or not is_same(token, form_token(grid, request)):
        raise AccessDeniedError(
            "this was not sent from a page of this grid, or you have signed in or out since that page was "
            "loaded: load it again, and repeat what you wanted to do"
        )


def _seal(grid: Grid) -> Seal:
    return Seal([grid.store.secret.hex()])
