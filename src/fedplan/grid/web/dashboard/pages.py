"""How a page is made from a template, and what a browser is told about it."""

import functools
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from fedplan.errors import AccessDeniedError, AuthenticationError
from fedplan.grid.grid import Grid
from fedplan.grid.identity.access import Holder
from fedplan.grid.records import Scope
from fedplan.grid.service.status import moment
from fedplan.grid.web.dashboard.sessions import COOKIE, caller_of, form_token
from fedplan.grid.web.http import answered
from fedplan.grid.web.replies import refusal
from fedplan.version import __version__

_FOLDER = Path(__file__).parent

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing inline, nothing from elsewhere."""

_HEADERS = {
    "content-security-policy": _POLICY,
    "cache-control": "no-store",
    "referrer-policy": "same-origin",  # with less, a browser would not say where a form comes from
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

_TITLES = {403: "Not allowed", 404: "Not found", 409: "Not possible now", 503: "Not possible now"}

Handler = Callable[[Request, Grid], Awaitable[Response]]


def _static() -> dict[str, bytes]:
    folder = _FOLDER / "static"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


STATIC = _static()
"""Scripts, styles and pictures, by the name below `static/`."""

STATIC_TAG = hashlib.sha256(b"".join(STATIC.values())).hexdigest()[:12]
"""Is another one for other files, so that browsers may keep them for good."""

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def link(page: str, **query: object) -> str:
    """A link to a page of the dashboard, from any other."""
    kept = {name: value for name, value in query.items() if value is not None}
    return f"{page}?{urlencode(kept)}" if kept else page


_templates.globals["link"] = link


async def render(
    grid: Grid, request: Request, template: str, values: dict[str, Any], status: int = 200
) -> Response:
    """A page, or a part of one.

    Args:
        grid: the grid.
        request: who asks for it.
        template: its name.
        values: plain data for it.
        status: of the answer.
    """
    holder = await grid.access.holder(caller_of(grid, request))
    common = {
        "holder": None if holder is None else described(holder),
        "is_signed_in": COOKIE in request.cookies and holder is not None and not holder.is_anybody,
        "form": form_token(grid, request),
        "tag": STATIC_TAG,
        "now_iso": moment(grid.clock.wall()).isoformat(),
        "version_of_grid": __version__,
    }
    text = _templates.get_template(template).render({**common, **values})
    return HTMLResponse(text, status, _HEADERS)


def described(holder: Holder) -> dict[str, Any]:
    """Who asks, as templates know it: what it may do by the scopes' names."""
    return {
        "name": holder.name,
        "is_anybody": holder.is_anybody,
        "may": {str(scope): scope in holder.scopes for scope in Scope},
    }


def page(name: str) -> Callable[[Handler], Callable[..., Awaitable[Response]]]:
    """Makes a handler's errors into pages, sends who has to sign in to do so, and counts the requests.

    Args:
        name: of the page, for the metrics.
    """

    def wrap(handler: Handler) -> Callable[..., Awaitable[Response]]:
        @answered(f"dashboard/{name}")
        @functools.wraps(handler)
        async def run(request: Request) -> Response:
            grid: Grid = request.app.state.grid
            try:
                return await handler(request, grid)
            except AuthenticationError:
                if "authorization" in request.headers:  # a program, which cannot sign in
                    raise
                return _sign_in(request)
            except Exception as error:  # noqa: BLE001  # `refusal` logs what is not expected
                return await _refused(grid, request, error)

        # FastAPI looks at the signature, and `wraps` gives that of the handler
        async def route(request: Request) -> Response:
            return await run(request)

        route.__doc__ = handler.__doc__
        return route

    return wrap


def _sign_in(request: Request) -> Response:
    """Leads to the page for signing in, and from there back."""
    here = request.url.path.rsplit("/", 1)[-1]
    query = request.url.query if request.method == "GET" else ""
    ended = "yes" if COOKIE in request.cookies else None
    target = link("login", next=f"{here}?{query}" if query else here or None, ended=ended)
    if "hx-request" in request.headers:  # a part of a page: the whole page must go there
        return Response(status_code=204, headers={"hx-redirect": target, **_HEADERS})
    return RedirectResponse(target, 303, _HEADERS)


async def _refused(grid: Grid, request: Request, error: Exception) -> Response:
    status, reply = refusal(error)
    values = {
        "title": _TITLES.get(status, "That does not work"),
        "why": reply.error,
        "is_about_rights": isinstance(error, AccessDeniedError),
    }
    return await render(grid, request, "refused.html", values, status)


def see(target: str) -> Response:
    """Leads on to a page after something was done."""
    return RedirectResponse(target, 303, _HEADERS)
