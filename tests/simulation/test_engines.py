"""Engines: whoever computes the clients, the bits are the same."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedplan
from fedplan.errors import ConfigError, DataError, FedplanError
from fedplan.federation import Task
from fedplan.plan import RandomStream
from fedplan.simulation.chance import Chance
from fedplan.simulation.deployment import deploy
from fedplan.simulation.engines import choice
from fedplan.simulation.engines.batched.batched import Batched
from fedplan.simulation.engines.child import portable
from fedplan.simulation.engines.memory import SharedMemory
from fedplan.simulation.engines.processes import Processes
from fedplan.simulation.engines.sequential import Sequential
from fedplan.simulation.gathering import Gathered
from fedplan.simulation.population import population_of
from fedplan.simulation.states import ClientState
from fedplan.simulation.work import Experiment, Work
from tests.simulation.cases import CONFIG, clients, data_of, model_of, plans_of, same_bits, simulate
from tests.simulation.killed import CASES, run

ENGINES: dict[str, Callable[[Experiment], Any]] = {
    "sequential": lambda _: Sequential(),
    "1 process": lambda experiment: Processes(experiment, 1),
    "3 processes": lambda experiment: Processes(experiment, 3),
    "batched": lambda experiment: Batched(experiment, 3),
}


def told(result: fedplan.Simulation) -> list[dict[str, Any]]:
    return [{**row, "seconds": None} for row in result.history.to_dicts()]


class TestSeveralProcesses:
    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.some(2)
    @pytest.mark.parametrize("workers", [3, 1])
    def test_give_the_bits_of_one(self, case: str, workers: int) -> None:
        result = run(case, engine="processes", workers=workers)
        alone = run(case, engine="sequential")
        assert same_bits(result.model, alone.model)
        assert told(result) == told(alone)
        assert result.engine == "processes"

    @pytest.mark.parametrize(
        "server",
        [
            {"strategy": "median", "min_diffs": 8},
            {"strategy": {"name": "krum", "f": 1}, "min_diffs": 8},
            {"strategy": {"name": "geometric_median", "bucketing": 2}, "min_diffs": 8},
            {"evaluation": {"fraction": 0.2}, "num_cycles": 2},
            {"report_formats": ["int8"], "metrics": ["update_norm"]},
        ],
    )
    def test_give_the_bits_of_one_also_where_all_reports_are_needed(self, server: dict[str, Any]) -> None:
        options: dict[str, Any] = {
            "evaluates": True,
            "server": server,
            "behaviour": fedplan.SignFlip(share=0.3),
        }
        result = simulate(engine="processes", workers=3, **options)
        alone = simulate(engine="sequential", **options)
        assert same_bits(result.model, alone.model)
        assert told(result) == told(alone)

    def test_give_the_bits_of_one_with_an_averaging_plan(self) -> None:
        def average(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple((tensors[k] * 2 + tensors[4 + k]) / 3 for k in range(4))

        parts = [p.detach() for p in model_of().parameters()]
        plan = fedplan.trace(average, *parts, *parts)
        options: dict[str, Any] = {"server_averaging_plan": plan, "cohort": 2}
        result = simulate(engine="processes", workers=2, **options)
        assert same_bits(result.model, simulate(engine="sequential", **options).model)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_keep_the_reports_that_an_averaging_plan_folds_when_the_cycle_closes(self, workers: int) -> None:
        def average(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(sum(tensors[k::4][1:], tensors[k]) / 6 for k in range(4))

        parts = [p.detach() for p in model_of().parameters()]
        plan = fedplan.trace(average, *parts * 6)
        options: dict[str, Any] = {"server_averaging_plan": plan, "cohort": 6}
        result = simulate(engine="processes", workers=workers, **options)
        assert same_bits(result.model, simulate(engine="sequential", **options).model)

    def test_go_on_with_what_one_has_begun(self, tmp_path: Path) -> None:
        run("scaffold", checkpoint=tmp_path, rounds=2, engine="processes", workers=2)
        result = run("scaffold", checkpoint=tmp_path, engine="sequential")
        assert same_bits(result.model, run("scaffold").model)

    def test_refuse_reports_as_one_does(self) -> None:
        broken = clients()
        broken[3] = (broken[3][0] * float("inf"), broken[3][1])
        server = {"min_diffs": 9, "max_diffs": 9}
        results = [
            simulate(clients=broken, server=server, cohort=9, rounds=3, engine=engine, workers=2)
            for engine in ("processes", "sequential")
        ]
        assert told(results[0]) == told(results[1])
        assert sum(row.refused for row in results[0].history) > 0

    def test_ask_for_the_data_of_each_client_once(self, tmp_path: Path) -> None:
        def data(client: int) -> Any:
            with open(tmp_path / "asked", "a") as file:
                file.write(f"{client}\n")
            return data_of(client)

        simulate(clients=data, population=1000, cohort=6, rounds=2, engine="processes", workers=3)
        asked = (tmp_path / "asked").read_text().splitlines()
        assert len(asked) == len(set(asked)) == 12

    def test_tell_of_an_error_in_whose_data_it_is(self) -> None:
        wrong = clients()
        wrong[4] = (wrong[4][0][:5], wrong[4][1])
        with pytest.raises(DataError, match="client 4: data and target differ"):
            simulate(clients=wrong, engine="processes", workers=2)
        assert multiprocessing.active_children() == []

    def test_pass_on_what_the_users_own_code_raises(self) -> None:
        def data(client: int) -> Any:
            raise ZeroDivisionError(f"no data for {client}")

        with pytest.raises(ZeroDivisionError, match="no data for"):
            simulate(clients=data, population=5, engine="processes", workers=2)

    def test_say_when_one_of_them_has_ended(self) -> None:
        def data(client: int) -> Any:
            os.kill(os.getpid(), signal.SIGKILL)

        with pytest.raises(FedplanError, match=r"ended by itself \(exit code -9\)"):
            simulate(clients=data, population=5, engine="processes", workers=2)

    def test_are_gone_afterwards(self) -> None:
        simulate(engine="processes", workers=3, progress=lambda _: None)
        assert multiprocessing.active_children() == []

    def test_need_the_processor(self) -> None:
        deployment = deploy(model_of(), plans_of(), CONFIG, {})
        chance = Chance(RandomStream(0))
        population = population_of(clients(), None)
        experiment = Experiment(deployment, population, chance, (), None, torch.device("cuda"))
        with pytest.raises(ConfigError, match="the device is 'cuda'"):
            Processes(experiment, 2)

    def test_need_a_number_of_them(self) -> None:
        with pytest.raises(ConfigError, match="workers must be a positive integer"):
            simulate(engine="processes", workers=0)


INTERRUPTED = """
import sys, time
from tests.simulation.cases import data_of, simulate

def data(client):
    time.sleep(0.05)
    return data_of(client)

result = simulate(clients=data, population=50, cohort=10, rounds=100, engine="processes", workers=2,
                  progress=lambda row: print("row", row.cycle, flush=True))
print("rows", len(result.history), result.interrupted, flush=True)
"""


def start(script: str) -> subprocess.Popen[str]:
    """Runs it in a process group of its own, until it has said that the first cycle has ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "row 1\n"
    return process


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_ends_all_processes_and_gives_what_there_is() -> None:
    with start(INTERRUPTED) as process:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
        output, _ = process.communicate(timeout=30)
        assert output.splitlines()[-1].startswith("rows ")
        assert output.splitlines()[-1].endswith("True")
        assert not is_alive(process.pid)


def test_processes_end_with_the_one_that_started_them() -> None:
    with start(INTERRUPTED) as process:
        process.kill()
        process.wait(30)
        deadline = time.monotonic() + 20
        while is_alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_alive(process.pid)


class TestTheEngineThatChooses:
    def test_stays_with_one_process_for_what_is_quick(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(choice, "_WORTH_SECONDS", 10.0)  # the core may be busy just when it is tried
        monkeypatch.setattr(choice, "_GAIN", 0.0)
        with caplog.at_level(logging.INFO, "fedplan.simulation"):
            result = simulate(clients=data_of, population=20, cohort=1, rounds=4, workers=2, engine="auto")
        assert result.engine == "sequential"
        assert "engine: sequential, for a cycle takes about" in caplog.text

    def test_takes_several_for_what_takes_long(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(choice, "_GAIN", 0.0)  # the core may be busy just when it is tried

        def data(client: int) -> Any:
            time.sleep(0.1)
            return data_of(client)

        with caplog.at_level(logging.INFO, "fedplan.simulation"):
            result = simulate(clients=data, population=6, rounds=2, workers=2, engine="auto")
        assert result.engine == "processes"
        assert "engine: 2 processes, for a cycle takes about" in caplog.text
        assert same_bits(result.model, simulate(clients=clients(6)).model)


class TestMemoryThatProcessesShare:
    def test_has_the_arrays_of_an_object(self) -> None:
        memory = SharedMemory(1 << 20)
        value = {"a": np.arange(1000.0), "b": [np.ones((3, 4), np.float32), "text"]}
        found = memory.read(memory.write(value))
        np.testing.assert_array_equal(found["a"], value["a"])
        found["a"][0] = 7  # the reader may write
        assert found["b"][1] == "text"

    def test_takes_what_does_not_fit_on_another_way(self) -> None:
        memory = SharedMemory(100)
        large = np.arange(100_000.0)
        found = memory.read(memory.write(large))
        memory.write(np.zeros(3))
        np.testing.assert_array_equal(found, large)

    def test_is_written_over_by_the_next_object(self) -> None:
        memory = SharedMemory(1 << 20)
        first = memory.read(memory.write(np.zeros(10)))
        memory.write(np.ones(10))
        assert first.sum() == 10


@pytest.mark.parametrize(
    "error", [ValueError("x"), DataError("client 3: y"), fedplan.errors.UnsupportedOpError("op", instead="z")]
)
def test_an_error_comes_out_of_a_process_with_its_words(error: Exception) -> None:
    found = portable(error)
    assert isinstance(found, FedplanError) == isinstance(error, FedplanError)
    assert str(error) in str(found)


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_adds_reports_in_the_order_of_the_clients(name: str) -> None:
    deployment = deploy(model_of(), plans_of(), CONFIG, {"strategy": "median", "min_diffs": 7})
    population, chance = population_of(clients(), None), Chance(RandomStream(0))
    experiment = Experiment(deployment, population, chance, (), None, torch.device("cpu"))

    def rows(engine: Any, order: tuple[int, ...]) -> Any:
        work = Work(experiment, Task.TRAINING, 1, deployment.start, 0, order, lambda _: ClientState())
        with Gathered(deployment.strategy) as gathered:
            assert {sent.client for sent in engine.run(work, gathered)} == set(order)
            return gathered._scratch.columns(0, 47)

    order = (7, 2, 9, 0, 4, 8, 1)
    engine = ENGINES[name](experiment)
    try:
        found = rows(engine, order)
    finally:
        engine.close()
    for row, client in zip(found, order, strict=True):
        expected = rows(Sequential(), (client,))[0]
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-7 if name == "batched" else 0)
