"""How a worker comes into a cycle: authenticate, then ask."""

import contextlib
import logging
import random
from collections.abc import Sequence

from fedplan.errors import AuthenticationError, GridError, NotFoundError, OverloadedError
from fedplan.federation import Task, round_of
from fedplan.federation.admission import (
    DAY_SECONDS,
    Asker,
    Refusal,
    admission,
    keeps_waiting_list,
    needs_speed_test,
    task_for,
    waits_until,
)
from fedplan.federation.pacing import Pace
from fedplan.grid.clients import Client, obstacles, plans_for
from fedplan.grid.grid import Grid
from fedplan.grid.identity.auth import Worker, key_digest
from fedplan.grid.identity.certificates import Certificate
from fedplan.grid.observing.correlation import Actor, current, note_actor
from fedplan.grid.observing.events import Event, Kind
from fedplan.grid.records import Assignment, Cycle, Process
from fedplan.grid.secure.progress import heed, is_secure
from fedplan.grid.service.events import about, record
from fedplan.grid.store import participation, places
from fedplan.grid.store.connection import Db
from fedplan.wire.messages import (
    EVALUATION_PLAN,
    AuthenticateReply,
    AuthenticateRequest,
    CycleAccepted,
    CycleRejected,
    CycleRequest,
    worker_name,
)

logger = logging.getLogger(__name__)

_MOST_IDS = 10
"""Worker ids that one subject, of a token or a certificate, uses in one cycle: each is a row of a table."""


async def authenticate(
    grid: Grid, request: AuthenticateRequest, certificate: Certificate
) -> AuthenticateReply:
    """Makes somebody who may train a model a worker. Nothing is stored; see `WorkerIds`.

    Args:
        grid: the grid.
        request: the model, and a token.
        certificate: what is told of the sender's.

    Raises:
        NotFoundError: there is no such model.
        AuthenticationError: the token is missing or wrong, or the certificate is missing.
        OverloadedError: the token could not be checked.
    """
    process = await grid.known.find(request.model_name, request.model_version)
    config = process.server_config.authentication
    try:
        proof = await grid.tokens.check(config, request.auth_token)
        subject = certificate.required() if config and config.certificate else proof.subject
    except GridError as error:
        grid.bundles.add(about(process, Kind.REFUSED, str(error), what="authentication"), str(error))
        raise
    if process.server_config.privacy is not None and subject is None:
        raise AuthenticationError(
            "this model's privacy counts persons, and the token names none: it needs a 'sub' claim"
        )
    expires = grid.clock.wall() + grid.settings.worker_id_seconds
    if config is not None and proof.expires is not None:
        expires = min(expires, proof.expires + config.leeway)
    return AuthenticateReply(
        worker_id=grid.worker_ids.issue(process.id, subject, expires),
        requires_speed_test=needs_speed_test(process.server_config),
    )


async def request_cycle(
    grid: Grid, request: CycleRequest, client: Client, certificate: Certificate
) -> CycleAccepted | CycleRejected:
    """Takes a worker into the model's cycle, or tells it when to ask again. See `admission`.

    Args:
        grid: the grid.
        request: who asks, and for which model.
        client: the client that it is.
        certificate: what is told of the sender's.

    Raises:
        AuthenticationError: the worker id is none of this grid's, has expired, or opens another model; or the
            model asks for a certificate, and it is missing or another than that of the worker id.
        NotFoundError: there is no such model.
    """
    try:
        worker = grid.worker_ids.read(request.worker_id)
        note_actor(Actor("worker", worker_name(request.worker_id)))
        if worker.expires < grid.clock.wall():
            raise AuthenticationError("the worker_id has expired; authenticate again")
        asked_for = await _asked_for(grid, worker, request, certificate)
    except AuthenticationError as error:
        grid.bundles.add(Event(Kind.REFUSED, str(error), details={"what": "a place"}), str(error))
        raise
    client = client.loading(request.receive_operations_as)
    tells = bool(request.summary)
    secures = bool(request.secure_aggregation and request.tell_cycle)
    now = grid.clock()
    async with grid.store.writing() as db:
        cycle = await participation.latest_cycle(db, asked_for.id, lock=True)
        hosted = await grid.known.of_cycle(cycle, db)
        process = hosted.process
        strategy = grid.known.strategy(process)
        why_not = obstacles(
            process, hosted.plans, strategy, client.variant, client.kind, tells=tells, secures=secures
        )
        evaluation = {name: plan for name, plan in hosted.plans.items() if name == EVALUATION_PLAN}
        if why_not:
            _tell_withheld(grid, process, client, why_not)
        place = await participation.find_place(db, cycle.id, request.worker_id)
        other = await _place_of_identity(db, process, cycle, worker, place)
        if round_of(strategy).has_gathered(cycle):
            other = None  # its keys cannot pass to another worker
        last_cycle, taken, waiting = await _looked_up(db, process, cycle, worker, now)
        asker = Asker(
            place=other or place,
            last_cycle=last_cycle,
            taken=taken,
            waiting=waiting,
            able=not why_not,
            evaluates=bool(request.evaluates and tells and process.evaluates),
            download=client.mbits(request.download),
            upload=client.mbits(request.upload),
        )
        rejection = admission(
            process.server_config,
            round_of(strategy),
            cycle,
            asker,
            now,
            draw=grid.draw(),
            pace=_pace(grid, process, now),
            paused=cycle.paused_at is not None,
        )
        if keeps_waiting_list(process.server_config):
            until = waits_until(rejection, now) if rejection and rejection.waits else None
            await participation.note_waiting(db, process.id, worker.identity, until, now)
        if rejection is not None:
            if rejection.timeout is not None:
                address = asking.address if (asking := current()) else None
                grid.herds.add(process.id, worker.identity, now + rejection.timeout, now, address)
            logger.debug("cycle %d of '%s' rejects a worker: %s", cycle.number, process.name, rejection.why)
            why = "; ".join([rejection.why, *(why_not if rejection.why is Refusal.UNABLE else ())])
            refused = about(process, Kind.REFUSED, why, cycle=cycle, what="a place")
            grid.bundles.add(refused, (rejection.why, client.kind))
            return CycleRejected(timeout=rejection.timeout, reason=why if request.tell_cycle else None)
        grid.herds.remove(process.id, worker.identity)
        task = task_for(process.server_config, cycle, asker)
        request_key = await _take_place(
            grid, db, process, cycle, task, place, other, worker, request.worker_id
        )
        begins = is_secure(process, cycle) and await heed(grid, db, process, cycle.id)
        trains = task is Task.TRAINING
        plans = plans_for(hosted.plans, tells=tells) if trains else evaluation
        accepted = CycleAccepted(
            model=process.name,
            version=process.version,
            request_key=request_key,
            plans={name: plan.id for name, plan in plans.items()},
            protocols={name: protocol.id for name, protocol in hosted.protocols.items()} if trains else {},
            client_config=process.setting.told_at(cycle.number),
            model_id=cycle.checkpoint_id,
            cycle=cycle.number if request.tell_cycle else None,
            summary=True if tells else None,
            task=None if trains else "evaluation",
        )
    if begins:
        grid.closable.set()
    return accepted


async def _asked_for(grid: Grid, worker: Worker, request: CycleRequest, certificate: Certificate) -> Process:
    """What a worker wants to train.

    syft.js 0.1.4 authenticates once for all its jobs. So a worker id given for one model opens the others
    too, but for those that ask for a token: its token was checked for its own model only.
    """
    version = request.version
    if version is None:
        with contextlib.suppress(NotFoundError):  # its own model was deleted
            own = (await grid.known.hosted(worker.process_id)).process
            version = own.version if request.model == own.name else None
    process = await grid.known.find(request.model, version)
    if process.id != worker.process_id and process.server_config.authentication is not None:
        raise AuthenticationError("the worker authenticated for another model; authenticate for this one")
    _check_certificate(grid, process, worker, certificate)
    return process


def _check_certificate(grid: Grid, process: Process, worker: Worker, certificate: Certificate) -> None:
    """Checks the certificate with each request for a place: one that was revoked opens none any more, and a
    worker id is of no use to those who have another certificate.

    Raises:
        AuthenticationError: it is missing, or another than that of the worker id.
    """
    config = process.server_config.authentication
    if config is None or not config.certificate:
        return
    if not grid.worker_ids.is_of(worker, certificate.required()):
        raise AuthenticationError(
            "the worker_id was given to the subject of another certificate; authenticate with this one"
        )


async def _place_of_identity(
    db: Db, process: Process, cycle: Cycle, worker: Worker, own: Assignment | None
) -> Assignment | None:
    """The place that another worker of the same subject has, if that is the subject's one.

    A subject has one place and one report in a cycle, however often it authenticates. A page that was loaded
    again is another worker, and gets the place of the one that it was. That one may still report while nobody
    else of the subject has: so two devices of one subject do not lose their work to each other.

    Raises:
        OverloadedError: the subject comes with ever more worker ids.
    """
    config = process.server_config.authentication
    held = own is not None and (own.reported or not own.released)
    if config is None or not config.names_workers or held:
        return None
    places = await participation.places_of(db, cycle.id, worker.identity)
    if own is None and len(places) >= _MOST_IDS and not any(place.reported for place in places):
        raise OverloadedError(
            f"this subject, of a token or a certificate, came with {_MOST_IDS} worker ids in this cycle; use "
            "one of them"
        )
    others = [place for place in places if own is None or place.id != own.id]
    reported = next((place for place in others if place.reported), None)
    return reported or next((place for place in others if not place.released), None)


async def _looked_up(
    db: Db, process: Process, cycle: Cycle, worker: Worker, now: float
) -> tuple[int | None, Sequence[float], int]:
    """What `Asker` has of a worker's earlier cycles, and how many wait: only where the decision needs it."""
    config = process.server_config
    last, taken, waiting = None, list[float](), 0
    if config.do_not_reuse_workers_until_cycle:
        last = await participation.last_cycle_of(db, worker.identity, before=cycle)
    if keeps_waiting_list(config):
        waiting = await participation.count_waiting(db, process.id, worker.identity, now)
    if config.most_cycles_per_day is not None:
        taken = await places.taken_since(db, worker.identity, cycle, now - DAY_SECONDS)
    return last, taken, 1 + waiting


def _pace(grid: Grid, process: Process, now: float) -> Pace:
    """When workers that this model rejects are to ask again. Replicas have about as many each."""
    herd = grid.herds.count(process.id, now) * (1 + len(grid.others))
    settings = grid.settings
    chance = random.random()  # nosec B311  # no secret
    return Pace(settings.retry_seconds, settings.retries_per_second, herd, chance)


def _tell_withheld(grid: Grid, process: Process, client: Client, why: Sequence[str]) -> None:
    """Counts a client that cannot train a model; the log says it once for a model and a kind of client."""
    name = client.kind.name if client.kind else "another client"
    grid.metrics.withheld.labels(name).inc()
    if (process.id, name) in grid.withheld:
        return
    grid.withheld.add((process.id, name))
    reasons = "; ".join(why)
    logger.warning("'%s' version '%s' is withheld from %s: %s", process.name, process.version, name, reasons)


async def _take_place(
    grid: Grid,
    db: Db,
    process: Process,
    cycle: Cycle,
    task: Task,
    place: Assignment | None,
    other: Assignment | None,
    worker: Worker,
    worker_id: str,
) -> str:
    """Gives the worker a place, unless it has one already; returns its request key.

    Args:
        grid: the grid.
        db: the connection.
        process: the model.
        cycle: the cycle.
        task: what the worker does there.
        place: its own place, if it has one, or had.
        other: the place of another worker of its identity, which it gets.
        worker: who it is.
        worker_id: its id.
    """
    if place is not None and place.grants and not place.released:
        return grid.worker_ids.request_key(worker_id, cycle.id, place.grants)
    grants = 1 if place is None else place.grants + 1
    request_key = grid.worker_ids.request_key(worker_id, cycle.id, grants)
    digest, now = key_digest(request_key), grid.clock()
    if place is None:
        identity = worker.identity
        await participation.add_place(db, cycle, task, worker_id, identity, digest, now, instead_of=other)
    else:
        await participation.renew_place(db, cycle, place, digest, now, instead_of=other)
    await record(grid, db, _joined(process, cycle, task, worker_id, other, again=place is not None))
    return request_key


def _joined(
    process: Process, cycle: Cycle, task: Task, worker_id: str, other: Assignment | None, *, again: bool
) -> Event:
    """The event of a worker that got a place; arguments as for `_take_place`."""
    why, before = "it asked, and a place was free", None
    if other is not None:
        why = "it asked, and another worker of its subject had a place, which it got"
        before = worker_name(other.worker_id)
    elif again:
        why = "it asked again, having lost its place, and one was free"
    return about(
        process,
        Kind.JOINED,
        why,
        cycle=cycle,
        worker_id=worker_id,
        task=None if task is Task.TRAINING else task.value,
        instead_of=before,
    )
