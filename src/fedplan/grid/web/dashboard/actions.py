"""What a visitor may do. An action is a call of the API's table, so its rules and its scope are the same."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response

from fedplan.errors import InvalidRequestError, NotFoundError
from fedplan.grid.grid import Grid
from fedplan.grid.identity.access import make_token, revoke_token
from fedplan.grid.records import Scope
from fedplan.grid.web.calls import CALLS, admit, perform
from fedplan.grid.web.dashboard.pages import link, page, see
from fedplan.grid.web.dashboard.sessions import FORM_FIELD, caller_of, check_form
from fedplan.grid.web.http import read_body
from fedplan.wire.messages import DELETE, EXTEND, PAUSE, PROMOTE, RESUME, ROLL_BACK, STOP

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
    "stop": Asked(
        "Stop the training?",
        "The open cycle is averaged with the reports that it has, if they are enough, and no other follows. "
        "The checkpoints stay; the training can be extended later.",
        "Stop the training",
    ),
    "delete": Asked(
        "Delete this version?",
        "Its checkpoints, Plans, cycles and reports are deleted for good. Nobody can bring them back.",
        "Delete it",
        forces="Delete it also while a cycle is under way, whose reports are lost then",
    ),
    "promote": Asked(
        "Make this checkpoint the newest?",
        "A copy of it becomes the newest checkpoint, and the training goes on from there. The cycle that is "
        "under way is dropped. All other checkpoints stay.",
        "Make it the newest",
    ),
    "rollback": Asked(
        "Go back to this checkpoint?",
        "A copy of it becomes the newest checkpoint, and the training goes on from there. The cycle that is "
        "under way is dropped, and the checkpoints after this one are not to be had any more.",
        "Go back to it",
    ),
    "revoke": Asked(
        "Revoke this token?",
        "Whoever uses it is refused from then on, also who is signed in with it.",
        "Revoke it",
        Scope.ADMIN,
    ),
}
"""By what the form calls the action. Others are done at once."""

_CALLS = {
    "pause": PAUSE,
    "resume": RESUME,
    "stop": STOP,
    "extend": EXTEND,
    "delete": DELETE,
    "promote": PROMOTE,
    "rollback": ROLL_BACK,
}
"""The API's calls, by what forms call them."""

SAID = {
    "pause": "The model is paused: no worker joins it, and no time closes its cycle.",
    "resume": "The model is trained on.",
    "stop": "The training is stopped.",
    "extend": "The training is extended.",
    "delete": "The model is deleted.",
    "promote": "A copy of the checkpoint is the newest one now.",
    "rollback": "The model is back at the checkpoint.",
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


@router.post("/do", response_model=None)
@page("do")
async def do(request: Request, grid: Grid) -> Response:
    """Does what a form asks for, and shows the model again."""
    fields = await fields_of(grid, request)
    action = first(fields, "do")
    if action not in _CALLS:
        raise NotFoundError("there is no such action")
    call, caller = CALLS[_CALLS[action]], caller_of(grid, request)
    await admit(grid, call, caller, None)
    await perform(grid, call, _message(fields), caller)
    if action == "delete":
        return see(link("./", said=action))
    return see(link("model", name=first(fields, "name"), version=first(fields, "version"), said=action))


def _message(fields: Fields) -> dict[str, Any]:
    """The call's message. A number that is not given is left out, as the API has it."""
    message: dict[str, Any] = {"name": first(fields, "name"), "version": first(fields, "version")}
    for name, kind in (("cycles", int), ("checkpoint", int), ("seconds", float)):
        text = first(fields, name).strip()
        if text:
            message[name] = _number(name, text, kind)
    if "force" in fields:
        message["force"] = True
    return message


def _number(name: str, text: str, kind: type[int | float]) -> float:
    try:
        return kind(text)
    except ValueError:
        raise InvalidRequestError(f"'{name}' must be a number") from None


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
