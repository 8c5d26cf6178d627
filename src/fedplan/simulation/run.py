"""`simulate`: federated training with many clients, on one machine."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from fedplan.client.counts import positive_integer
from fedplan.client.training.device import Device, usable_device
from fedplan.errors import ConfigError, StuckCycleError
from fedplan.federation import round_of
from fedplan.plan import Plan, RandomStream
from fedplan.simulation.availability import ALL_AT_ONCE, Availability
from fedplan.simulation.behaviour import Behaviour, behaviours_of
from fedplan.simulation.chance import Chance
from fedplan.simulation.clock import Clock
from fedplan.simulation.deployment import deploy
from fedplan.simulation.engines.choice import engine_of
from fedplan.simulation.folder import Folder
from fedplan.simulation.history import SimulatedRow
from fedplan.simulation.measuring import measure_of
from fedplan.simulation.population import population_of
from fedplan.simulation.progress import Show, note_of, shown
from fedplan.simulation.result import Simulation
from fedplan.simulation.rounds import Rounds
from fedplan.simulation.sizes import cohort_of, rounds_of
from fedplan.simulation.states import ClientStates
from fedplan.simulation.work import Experiment, identity_of

MEMORY = 1 << 30
"""Bytes of clients' states that are held in memory, by default."""


def simulate(
    model: Any,
    plans: Mapping[str, Plan],
    clients: Any,
    client_config: Mapping[str, Any],
    server_config: Mapping[str, Any],
    *,
    rounds: int | None = None,
    cohort: int | None = None,
    population: int | None = None,
    seed: int = 0,
    engine: str = "auto",
    device: Device = None,
    workers: int | None = None,
    test: Any = None,
    every: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Show[SimulatedRow] = None,
    memory: int = MEMORY,
    availability: Availability = ALL_AT_ONCE,
    behaviour: Behaviour | Sequence[Behaviour] | None = None,
    report_format: str | None = None,
    secure_protocol: bool = False,
    plan: str = "training_plan",
    server_averaging_plan: Plan | None = None,
) -> Simulation:
    """Simulates the training of a model: as a grid would host it, with many clients on this machine. ::

        result = fedplan.simulate(
            model, {"training_plan": plan, "evaluation_plan": evaluation}, clients,
            client_config, server_config, rounds=100, cohort=50, test=(x, y),
        )
        print(result.history.values("test_accuracy"))
        grid.host_federated_training(**result.hosting())

    Clients run the bytes of the Plans that a grid would send them, with a worker's own code; their reports
    are taken by the grid's own rounds and strategies. With the same seed, the same client_config and the same
    server_config a real grid makes the same checkpoints, bit by bit, if the same clients take part with their
    seeds; see `fedplan.simulation.client_seed`.

    Ctrl-C ends a simulation early; what there is until then is returned.

    Args:
        model: what is trained; see `ModelCentricFLClient.host_federated_training`.
        plans: what clients run, by name. One of the name ``evaluation_plan`` measures the model on the
            clients' data before they train it, as on a grid, and on the test data.
        clients: a sequence with one entry a client, or a function: number of a client → its entry, which is
            called once for each client of a cohort. An entry is (x, y), as `participate` takes them; a
            Dataset, which is shuffled; a DataLoader; or a tensor or an array without targets.
        client_config: what clients are told.
        server_config: how cycles run. What is about connections (authentication, speeds) has no effect.
        rounds: cycles of training; ``num_cycles`` of the server_config by default.
        cohort: how many clients train in a cycle, or at a time with an asynchronous strategy; by default
            ``max_workers``, or as many reports as close a cycle, or all.
        population: how many clients there are, when their data comes from a function.
        seed: decides everything that is drawn: who takes part, the clients' random inputs, who drops out.
        engine: how clients are computed: ``batched`` (side by side), ``sequential``, ``processes``, or
            ``auto``, which takes the fastest. The last bits of what ``batched`` computes are not a grid's.
        device: where Plans run, such as ``"cuda"``; the CPU by default.
        workers: how many processes; as many as there are cores by default.
        test: (x, y), on which the evaluation Plan measures each new checkpoint; or a function of the
            `SyftModel` that returns numbers by name.
        every: measure after so many rounds, and after the last one.
        checkpoint: a folder. A simulation that is killed and started again with the same arguments goes on
            from the last cycle that ended, to the same bits; with more rounds it goes on to these.
        progress: True or False to show a progress bar or not; a function, which is called with each new row
            of the history; by default a bar where there is a terminal or a notebook.
        memory: bytes of clients' states (control variates, private tensors, what smaller report formats have
            not sent yet) that are held in memory. The others are on disk.
        availability: how long clients take, and how many never report.
        behaviour: what some clients do otherwise: one `Behaviour`, or several.
        report_format: see `participate`.
        secure_protocol: with ``secure_aggregation`` in the server_config, run the whole protocol: keys,
            shares, masks and unmasking of every client. By default only the whole numbers are added up that
            clients would mask, which gives the same bits in much less time.
        plan: name of the training Plan.
        server_averaging_plan: how reports are averaged; see `ModelCentricFLClient.host_federated_training`.

    Returns:
        What came of it.

    Raises:
        ConfigError: a configuration or an argument is wrong; what a grid would refuse is refused in its
            words.
        StuckCycleError: a cycle can never close, as when the training has diverged and all reports are
            refused. Its `simulation` is what came of the cycles before; so does the folder have them.
        HostingError: the model or a Plan cannot be hosted.
        CheckpointError: the folder is another simulation's, or damaged, or its run was begun by an engine
            that gives other bits.
        DataError: a client's data cannot be used; says which client.
        PlanError: a Plan failed on a client's data; says which client.
    """
    deployment = deploy(model, plans, client_config, server_config, server_averaging_plan, plan)
    found = population_of(clients, population)
    if secure_protocol and deployment.server_config.secure_aggregation is None:
        raise ConfigError(
            "secure_protocol=True runs the protocol of secure aggregation, and the server_config does not "
            "ask for that: put secure_aggregation into it"
        )
    last = rounds_of(rounds, deployment)
    most = cohort_of(cohort, deployment.strategy, found.count)
    chance = Chance(RandomStream(seed))
    place = usable_device(device)
    experiment = Experiment(deployment, found, chance, behaviours_of(behaviour), report_format, place)
    measure = measure_of(test, deployment, seed, place)
    every = positive_integer(every, "every")
    clock = Clock(deployment.strategy, round_of(deployment.strategy), chance, availability, found.count, most)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_one_thread())
        stack.enter_context(_each_warning_once())
        before, folder = None, None
        if checkpoint is not None:
            folder = stack.enter_context(Folder(checkpoint, identity_of(experiment, most, availability)))
            before = folder.read(clock)
        done = 0 if before is None else len(before.rows)
        states = ClientStates(memory, None if folder is None else folder.clients, done)
        stack.callback(states.close)
        runs = engine_of(engine, workers, experiment, None if folder is None else folder.at_once)
        stack.callback(runs.close)
        simulated = Rounds(experiment, clock, runs, states, measure, every, before, masked=secure_protocol)
        rows = simulated.run(last)
        if folder is not None:
            rows = _kept(rows, simulated, clock, states, folder)
        interrupted = False
        try:
            for _ in shown(progress, rows, "round", last, note_of, done):
                pass
        except KeyboardInterrupt:
            interrupted = True
        except StuckCycleError as error:
            error.simulation = Simulation(deployment, simulated.progress, runs.name)
            raise
    return Simulation(deployment, simulated.progress, runs.name, interrupted=interrupted)


def _kept(
    rows: Iterator[SimulatedRow], simulated: Rounds, clock: Clock, states: ClientStates, folder: Folder
) -> Iterator[SimulatedRow]:
    """The rows, each when all that its cycle leaves behind is in the folder."""
    for row in rows:
        states.write()
        folder.write(simulated.progress, clock, simulated.engine.at_once)
        states.settle()
        yield row


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Clients are computed in one thread each, so that their bits do not depend on the engine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _each_warning_once() -> Iterator[None]:
    """What a worker's log would say of its data is said once, and not for each client in each cycle."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or record.msg not in said:
            said.add(record.msg)
            return True
        return False

    log = logging.getLogger("fedplan.client")
    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)
