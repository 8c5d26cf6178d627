"""What a visitor may do. An action is a call of the API's table, so its rules and its scope are the same."""

import dataclasses
from collections.abc import Mapping
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response

from fedplan.errors import InvalidRequestError
from fedplan.grid.access import make_token, revoke_token
from fedplan.grid.grid import Grid
from fedplan.grid.records import Scope
from fedplan.grid.web.dashboard.pages import link, page, see
from fedplan.grid.web.dashboard.sessions import FORM_FIELD, caller_of, check_form
from fedplan.grid.web.http import read_body

router = APIRouter(include_in_schema=False)

_MOST_BYTES = 64 * 1024
"""Of a form."""

Fields = Mapping[str, list[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What is asked before something is done that cannot be taken back.

    Attributes:
        title: the question.
        text: what will happen.
        button: what the button says.
        scope: what it needs a token for.
        forces: what a box offers to do all the same, if it does.
    """

    title: str
    text: str
    button: str
    scope: Scope = Scope.HOST
    forces: str | None = None


ASKED: dict[str, Asked] = {
    "revoke": Asked(
        "Revoke this token?",
        "Whoever uses it is refused from then on, also who is signed in with it.",
        "Revoke it",
        Scope.ADMIN,
    ),
}
"""By what the form calls the action. Others are done at once."""

SAID = {
    "revoke": "The token is revoked.",
}
"""What the page after an action says."""


async def fields_of(grid: Grid, request: Request) -> Fields:
    """What a form holds, if a page of the grid has sent it.

    Raises:
        InvalidRequestError: it cannot be read.
        AccessDeniedError: it was sent from elsewhere.
    """
    body = await read_body(request, _MOST_BYTES, lambda _size: None)
    try:
        fields = parse_qs(bytes(body).decode(), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise InvalidRequestError("the form cannot be read") from None
    check_form(grid, request, first(fields, FORM_FIELD))
    return fields


def first(fields: Fields, name: str) -> str:
    """The value of a field; "" when there is none."""
    return fields.get(name, [""])[0]


async def add_token(grid: Grid, name: str, scopes: frozenset[Scope], seconds: float | None) -> str:
    """Makes an API token that a form asks for; returns its text, which is shown once."""
    return await make_token(
        grid.store, name, scopes, seconds, grid.clock.wall(), cause="asked for on the dashboard"
    )


@router.post("/revoke", response_model=None)
@page("revoke")
async def revoke(request: Request, grid: Grid) -> Response:
    """Revokes an API token."""
    fields = await fields_of(grid, request)
    await grid.access.require(caller_of(grid, request), Scope.ADMIN)
    cause = "asked for on the dashboard"
    await revoke_token(grid.store, first(fields, "name"), grid.clock.wall(), cause=cause)
    return see(link("tokens", said="revoke"))
