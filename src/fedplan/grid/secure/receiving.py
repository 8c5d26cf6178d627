"""What a worker is sent at the end of each stage of a secure round."""

import pybase64

from fedplan.errors import InvalidRequestError, ReportConflictError, SecureRoundError
from fedplan.federation import GATHER, KEYS, REPORTS, SHARES, UNMASKING
from fedplan.federation.secure import Lists, Terms, question_of
from fedplan.grid.grid import Grid
from fedplan.grid.records import Assignment, Cycle, Phase, Process
from fedplan.grid.secure import queries
from fedplan.grid.secure.progress import is_secure
from fedplan.grid.secure.queries import Said
from fedplan.grid.secure.settled import settled, with_shares
from fedplan.grid.service.access import find_place
from fedplan.wire.messages import SecureReceived, SecureReceiveRequest

_SHORTEST = 0.05
"""Seconds between two requests of a worker that waits; the setting `retry_seconds` is the longest."""

_LOOKS = 20
"""How often a worker asks in the time of a stage, if that is not too often or too seldom."""

_ASKED_A_SECOND = 200
"""How often all workers of a round together ask."""

_AFTER = {KEYS: (SHARES, REPORTS, UNMASKING), SHARES: (REPORTS, UNMASKING), REPORTS: (UNMASKING,)}
"""Of a stage, those that follow."""


async def receive(grid: Grid, request: SecureReceiveRequest) -> SecureReceived:
    """What the grid sends at the end of a stage, or after how many seconds to ask again.

    Asked again it is the same bytes, also after a restart.

    Raises:
        AccessDeniedError: the request key was not given to this worker.
        InvalidRequestError: the worker's cycle is no secure round, or nothing is sent after the stage.
        ReportConflictError: the worker has sent nothing at this stage.
    """
    async with grid.store.reading() as db:
        place, cycle = await find_place(db, request.worker_id, request.request_key)
        said = await queries.said(db, cycle.id)
        sent = await queries.digest_of(db, place.id, request.stage)
    process = (await grid.known.of_cycle(cycle)).process
    if not is_secure(process, cycle) or request.stage not in _AFTER:
        raise InvalidRequestError(f"nothing is sent to this worker after the stage '{request.stage}'")
    failure = cycle.failure if cycle.phase is Phase.FAILED else said.failure
    if failure is not None:
        return SecureReceived(failure=failure)
    if cycle.is_over:
        return _after_the_end(request.stage, place, said)
    if cycle.is_open and cycle.stage not in _AFTER[request.stage]:
        if sent is None:
            raise ReportConflictError(f"the worker has sent nothing at the stage '{request.stage}'")
        return SecureReceived(retry_after=_retry(process, cycle, grid.settings.retry_seconds))
    try:
        message = await _message(grid, request.stage, place, cycle, said)
    except SecureRoundError as error:
        return SecureReceived(failure=str(error))
    return SecureReceived(message=pybase64.b64encode_as_string(message))


def _after_the_end(stage: str, place: Assignment, said: Said) -> SecureReceived:
    """What is sent in a round that has its sum, of which keys and shares are forgotten.

    A worker whose report is in the sum may not know that its help is not needed any more: it is asked the
    question of before, and its answer is a success.
    """
    if stage != REPORTS or not place.reported or said.announcement is None or said.lists is None:
        return SecureReceived(failure="the round went on without this worker, and is over")
    terms = Terms.parse(said.announcement)
    question = question_of(terms, Lists.parse(said.lists, terms.parameters.workers))
    return SecureReceived(message=pybase64.b64encode_as_string(question))


async def _message(grid: Grid, stage: str, place: Assignment, cycle: Cycle, said: Said) -> bytes:
    """The bytes.

    Raises:
        SecureRoundError: the round went on without this worker.
    """
    found = await settled(grid, cycle.id)
    if found is None or place.id not in found.numbers or said.announcement is None:
        raise SecureRoundError("the round began without this worker: its keys came too late")
    if stage == KEYS:
        return said.announcement
    number = found.numbers[place.id]
    if stage == SHARES:
        delivery = (await with_shares(grid, cycle.id, found)).deliveries.get(number)
        if delivery is None:
            raise SecureRoundError("the round went on without this worker: its shares came too late")
        return delivery
    lists = None if said.lists is None else found.lists(said.lists)
    if lists is None or number not in lists.reported:
        raise SecureRoundError("the round went on without this worker: its report came too late")
    return question_of(found.terms, lists)


def _retry(process: Process, cycle: Cycle, longest: float) -> float:
    """Seconds after which a worker asks again; `longest` if so few ask that it matters to nobody."""
    config = process.server_config.secure_aggregation
    assert config is not None  # the caller looked: `is_secure`
    lengths = {GATHER: config.gather_length, SHARES: config.training_length}
    length = lengths.get(cycle.stage or "", config.stage_length)
    usual = min(max(length / _LOOKS, _SHORTEST), longest)
    return max(usual, cycle.occupied / _ASKED_A_SECOND)
