"""Signing in with a token, and out."""

import dataclasses
import re

from fastapi import APIRouter, Request, Response

from fedplan.errors import AuthenticationError, GridError
from fedplan.grid.grid import Grid
from fedplan.grid.records import Scope
from fedplan.grid.web.callers import Caller
from fedplan.grid.web.dashboard.actions import fields_of, first
from fedplan.grid.web.dashboard.pages import page, render, see
from fedplan.grid.web.dashboard.sessions import caller_of, end_session, start_session

router = APIRouter(include_in_schema=False)

_PAGES = re.compile(r"(|model|plan|events|tokens|confirm)(\?[^#\s\\]*)?")
"""Where signing in may lead: to no other site."""


@router.get("/login", response_model=None)
@page("login")
async def login(request: Request, grid: Grid) -> Response:
    """Asks for a token; who needs none, or has shown one, goes on."""
    target = _within(request.query_params.get("next", ""))
    if await grid.access.holder(caller_of(grid, request)) is not None:
        return see(target or "./")
    values = {"next": target, "failed": None, "ended": "ended" in request.query_params}
    return await render(grid, request, "login.html", values)


@router.post("/login", response_model=None)
@page("login")
async def sign_in(request: Request, grid: Grid) -> Response:
    """Takes a token and, if it opens the dashboard, keeps it in a sealed cookie."""
    fields = await fields_of(grid, request)
    target, token = _within(first(fields, "next")), first(fields, "token").strip()
    caller = dataclasses.replace(Caller.of(request.headers), token=token)
    try:
        await grid.access.require(caller, Scope.OBSERVE)
    except GridError as error:
        status = 401 if isinstance(error, AuthenticationError) else 403
        values = {"next": target, "failed": str(error) if token else "Give a token.", "ended": False}
        return await render(grid, request, "login.html", values, status)
    response = see(target or "./")
    start_session(grid, request, response, token)
    return response


@router.post("/logout", response_model=None)
@page("logout")
async def sign_out(request: Request, grid: Grid) -> Response:
    """Forgets the token."""
    await fields_of(grid, request)
    response = see("login")
    end_session(response)
    return response


def _within(target: str) -> str:
    return target if _PAGES.fullmatch(target) else ""
