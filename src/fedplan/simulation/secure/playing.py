"""A secure round of a simulation, stage by stage."""

import dataclasses
import hashlib
import itertools
from collections.abc import Collection, Mapping, Sequence

from fedplan.errors import SecureAggregationError, SecureRoundError
from fedplan.federation import GATHER, KEYS, REPORTS, SHARES, UNMASKING, Tensors, secure_stages, why_lost
from fedplan.federation.secure import (
    Manifest,
    Payload,
    Received,
    Roster,
    RosterMember,
    SecureWorker,
    Terms,
    digest_of_bytes,
    digest_of_tensors,
    lists_of,
)
from fedplan.federation.secure.cycles import (
    cycle_name,
    digest_of_config,
    first_exponents,
    manifest_of,
    report_bytes,
)
from fedplan.federation.secure.shamir import Draw
from fedplan.plan import from_torch
from fedplan.simulation.clock import Clock, Cycle
from fedplan.simulation.engines.engine import Engine
from fedplan.simulation.secure.adding import Adding, Additions, MaskedAdding, PlainAdding
from fedplan.simulation.secure.turnout import Turnout
from fedplan.simulation.states import ClientStates
from fedplan.simulation.work import Experiment, Sent, Work
from fedplan.wire.messages import PLAN_VARIANTS
from fedplan.wire.secure import SecureAggregationConfig


@dataclasses.dataclass(slots=True)
class Played:
    """What came of a secure round.

    Attributes:
        manifest: of the round; None when it did not come to one.
        total: the sum; None when there is none.
        failure: why not.
        reports: of how many workers it is.
        bytes: of their reports.
        refused: workers that could not report what they trained, and left.
    """

    manifest: Manifest | None = None
    total: Payload | None = None
    failure: str | None = None
    reports: int = 0
    bytes: int = 0
    refused: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Joined:
    """The workers of a round, once it is settled who is in it."""

    terms: Terms
    workers: Mapping[int, SecureWorker]
    numbers: Mapping[int, int]
    """By the clients."""


class SecureRounds:
    """Plays the secure rounds of a simulation.

    Args:
        experiment: what stays the same.
        clock: the virtual time.
        states: what clients remember.
        masked: whether the whole protocol is run; else only the sum is made that it gives.
    """

    def __init__(self, experiment: Experiment, clock: Clock, states: ClientStates, *, masked: bool) -> None:
        self._experiment = experiment
        self._clock = clock
        self._states = states
        self._masked = masked

    def play(
        self, engine: Engine, cycle: Cycle, changing: Tensors, exponents: Sequence[int] | None
    ) -> Played:
        """Plays a round.

        Args:
            engine: computes what clients report.
            cycle: the cycle, whose places are given.
            changing: what changes of the model.
            exponents: what an earlier round has left for the scales; None where there was none.
        """
        played, turnout = Played(), self._clock.turnout(cycle)
        cycle.gone, cycle.late = turnout.gone, len(turnout.late)
        try:
            self._play(engine, cycle, changing, exponents, turnout, played)
        except SecureAggregationError as error:
            played.failure = str(error)
        return played

    def _play(
        self,
        engine: Engine,
        cycle: Cycle,
        changing: Tensors,
        exponents: Sequence[int] | None,
        turnout: Turnout,
        played: Played,
    ) -> None:
        config = self._config
        self._ends(
            GATHER, turnout.clients, None, config.gather_length if cycle.occupied < config.workers else 0
        )
        members = turnout.at(KEYS, turnout.clients)
        self._ends(KEYS, members, None, self._waits(members, turnout.clients))
        cycle.occupied = len(members)
        joined = self._joined(cycle, members, changing, exponents)
        played.manifest = manifest = joined.terms.manifest
        with Additions(self._experiment.deployment.strategy, manifest, keeps=self._masked) as gathered:
            sent = self._reports(engine, cycle, changing, manifest, turnout.at(REPORTS, members), gathered)
            refused = {one.client for one in sent if one.refusal is not None}
            played.refused = len(refused)
            shared = [client for client in turnout.at(SHARES, members) if client not in refused]
            waits = turnout.training_seconds(shared)
            if len(shared) < len(members):
                waits = config.training_length
            self._ends(SHARES, shared, len(members), waits)
            adding = self._adding(joined, gathered)
            adding.share({joined.numbers[client] for client in shared})
            reported = turnout.at(REPORTS, shared)
            self._ends(REPORTS, reported, len(members), self._waits(reported, shared))
            number_of = joined.numbers.__getitem__
            lists = lists_of(joined.terms, set(map(number_of, shared)), set(map(number_of, reported)))
            played.bytes = len(reported) * report_bytes(manifest)
            answered = turnout.at(UNMASKING, reported)
            self._ends(UNMASKING, answered, len(members), self._waits(answered, reported))
            played.total = adding.sum(lists, set(map(number_of, answered)))
        played.reports = len(reported)
        by_client = {one.client: one for one in sent}
        for client in reported:  # the sum holds their reports, whether they helped to unmask it or not
            self._states.put(client, by_client[client].state)

    def _ends(self, name: str, came: Collection[int], members: int | None, seconds: float) -> None:
        """Ends a stage.

        Raises:
            SecureRoundError: too few have come.
        """
        self._clock.now += seconds
        stage = next(stage for stage in secure_stages(self._config, members) if stage.name == name)
        if len(came) < stage.needed:
            raise SecureRoundError(why_lost(stage, len(came)))

    def _waits(self, came: Collection[int], awaited: Collection[int]) -> float:
        """Seconds of a stage in which those who come do so at once."""
        return 0.0 if len(came) == len(awaited) else self._config.stage_length

    def _joined(
        self, cycle: Cycle, members: Sequence[int], changing: Tensors, exponents: Sequence[int] | None
    ) -> _Joined:
        deployment = self._experiment.deployment
        setting = deployment.strategy.setting
        name = cycle_name(deployment.name, deployment.version, cycle.number)
        made = {client: SecureWorker(name, draw=self._draw(client, cycle.number)) for client in members}
        keys = {client: RosterMember.parse(worker.keys).mask_key for client, worker in made.items()}
        roster = Roster.of(RosterMember.parse(worker.keys) for worker in made.values())
        received = self._received(cycle.number, changing)
        scales = exponents or first_exponents(setting)
        terms = Terms.of(manifest_of(setting, name, roster, received, scales), roster)
        places = {member.mask_key: number for number, member in enumerate(roster)}
        numbers = {client: places[key] for client, key in keys.items()}
        if self._masked:
            announcement = terms.serialize()
            for worker in made.values():
                worker.join(announcement, received)
        return _Joined(terms, {numbers[client]: worker for client, worker in made.items()}, numbers)

    def _adding(self, joined: _Joined, gathered: Additions) -> Adding:
        if not self._masked:
            return PlainAdding(joined.terms, gathered)
        clients = {number: client for client, number in joined.numbers.items()}
        return MaskedAdding(joined.terms, gathered, joined.workers, clients)

    def _reports(
        self,
        engine: Engine,
        cycle: Cycle,
        changing: Tensors,
        manifest: Manifest,
        clients: Sequence[int],
        gathered: Additions,
    ) -> list[Sent]:
        work = Work(
            self._experiment,
            cycle.task,
            cycle.number,
            changing,
            0,
            tuple(clients),
            self._states.get,
            manifest,
        )
        return list(engine.run(work, gathered)) if clients else []

    def _received(self, cycle: int, changing: Tensors) -> Received:
        """Digests of what the clients download."""
        deployment = self._experiment.deployment
        model = digest_of_tensors([from_torch(param) for param in deployment.whole(changing).params])
        plans = {
            f"{name}/{PLAN_VARIANTS[0]}": digest_of_bytes(plan.serialize())
            for name, plan in deployment.plans.items()
        }
        return Received(model, plans, digest_of_config(deployment.config_at(cycle)))

    def _draw(self, client: int, cycle: int) -> Draw:
        """What a client draws its secrets from. They protect nobody here: all of them are in one place."""
        key, counter = self._experiment.chance.secrets_key(client, cycle), itertools.count()
        return lambda size: hashlib.shake_256(key + next(counter).to_bytes(8, "little")).digest(size)

    @property
    def _config(self) -> SecureAggregationConfig:
        config = self._experiment.deployment.server_config.secure_aggregation
        if config is None:
            raise SecureAggregationError("the model is not trained with secure aggregation")
        return config
