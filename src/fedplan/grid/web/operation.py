"""What operators' tools ask a grid process: is it well, and what has it done."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from fedplan.grid.grid import Grid
from fedplan.grid.observing.gauges import gauges
from fedplan.grid.readiness import OK, Readiness
from fedplan.grid.records import Scope
from fedplan.grid.store import spendings
from fedplan.grid.store.overview import last_summaries, overview
from fedplan.grid.web.callers import Caller
from fedplan.grid.web.http import answered
from fedplan.grid.web.replies import RETRY_SECONDS

router = APIRouter()


@router.get("/healthz", response_model=None)
@answered("healthz")
async def healthz(request: Request) -> Response:
    """200 when the process answers: to start it again helps none of what `readyz` tells of."""
    return JSONResponse({"status": OK})


@router.get("/readyz", response_model=None)
@answered("readyz")
async def readyz(request: Request) -> Response:
    """200 when the grid can do its work; else 503, and which of database, blobs and disk is not fine."""
    readiness: Readiness = request.app.state.readiness
    found = await readiness.look()
    if set(found.values()) == {OK}:
        return JSONResponse({"status": OK, **found})
    return JSONResponse(
        {"status": "unavailable", **found}, 503, headers={"retry-after": str(RETRY_SECONDS[503])}
    )


@router.get("/metrics", response_model=None)
@answered("metrics")
async def metrics(request: Request) -> Response:
    """The counters, in Prometheus's text format; for who may observe also how each model is doing.

    A token that is shown and does not open this is refused.
    """
    grid: Grid = request.app.state.grid
    counted = grid.metrics.exposition()
    caller = Caller.of(request.headers)
    refused = await grid.access.refusal(caller, Scope.OBSERVE)
    if refused is not None and caller.token is not None:  # a tool whose token has expired must not look well
        raise refused
    if refused is None:
        async with grid.store.reading(long=True) as db:
            seen, summaries = await overview(db, None), await last_summaries(db)
            spent = await spendings.latest_of_all(db)
        counted += gauges(seen, summaries, spent)
    return Response(counted, media_type="text/plain; version=0.0.4; charset=utf-8")
