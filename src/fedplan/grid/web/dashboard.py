"""The page at `/`: what the grid hosts and how its cycles stand. Made on the server, needs nothing else."""

import base64
import binascii
import dataclasses
from html import escape

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from fedplan.errors import AuthenticationError
from fedplan.grid.grid import Grid
from fedplan.grid.records import Scope
from fedplan.grid.service.status import status
from fedplan.grid.web.callers import Caller
from fedplan.grid.web.http import answered
from fedplan.wire.messages import ModelStatus, PlanStatus, StatusReply

router = APIRouter()

_COLUMNS = ("Model", "Version", "Training", "Cycle", "Phase", "Workers", "Reports", "Closes", "Checkpoint")

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width">
<title>fedplan grid</title>
<style>
  body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff; }}
  table {{ border-collapse: collapse; }}
  th, td {{ text-align: left; padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid #ddd; }}
  td.note {{ border: 0; }}
  td.failure {{ color: #a00; border: 0; }}
</style>
<h1>fedplan grid</h1>
{body}
</html>
"""


@router.get("/", response_model=None)
@answered("dashboard")
async def dashboard(request: Request) -> Response:
    """The page; a browser asks for a token as a password, where one is needed."""
    grid: Grid = request.app.state.grid
    try:
        caller = Caller.of(request.headers)
        shown = caller.token or _password_of(request)
        await grid.access.require(dataclasses.replace(caller, token=shown), Scope.OBSERVE)
    except AuthenticationError as error:
        ask = {"www-authenticate": 'Basic realm="fedplan grid, token as password"'}
        return HTMLResponse(page(f"<p>{escape(str(error))}</p>"), 401, ask)
    return HTMLResponse(page(models(await status(grid, None))))


def page(body: str) -> str:
    """A whole page."""
    return _PAGE.format(body=body)


def models(reply: StatusReply) -> str:
    """The hosted models as a table."""
    if not reply.models:
        return "<p>No model is hosted.</p>"
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    return f"<table><tr>{head}</tr>{''.join(map(_row, reply.models))}</table>"


def _row(model: ModelStatus) -> str:
    cycle = model.cycle
    of_all = f" of {model.num_cycles}" if model.num_cycles and cycle.task == "training" else ""
    phase = cycle.phase if cycle.task == "training" else f"evaluation, {cycle.phase}"
    cells = (
        model.name,
        model.version,
        "paused" if model.paused else model.phase,
        f"{cycle.number}{of_all}",
        phase,
        cycle.accepted,
        f"{cycle.reported}, {cycle.needed} needed" + (f", {cycle.damaged} damaged" if cycle.damaged else ""),
        f"{cycle.closes_at:%Y-%m-%d %H:%M:%S} UTC" if cycle.closes_at else "",
        model.checkpoints[0].number if model.checkpoints else "",
    )
    row = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
    notes = [("note", f"Plan {plan.name}: {_variants(plan)}") for plan in model.plans]
    notes += [("failure", f"no {withheld}") for withheld in model.withheld]
    if model.fault:
        notes.append(("failure", f"it stands still: {model.fault}"))
    if model.last_failure:
        notes.append(("failure", f"last failure: {model.last_failure}"))
    below = "".join(
        f'<tr><td class="{kind}" colspan="{len(cells)}">{escape(text)}</td></tr>' for kind, text in notes
    )
    return f"<tr>{row}</tr>{below}"


def _variants(plan: PlanStatus) -> str:
    """As what a Plan is served, with the errors that were measured: ``list, tfjs (±2.4e-07)``."""
    return ", ".join(
        hosted.variant if hosted.error is None else f"{hosted.variant} (±{hosted.error:.3g})"
        for hosted in plan.variants
    )


def _password_of(request: Request) -> str | None:
    """The password of HTTP Basic authentication, which is what a browser can be made to ask for."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2] or None
    except (binascii.Error, UnicodeDecodeError):
        return None
