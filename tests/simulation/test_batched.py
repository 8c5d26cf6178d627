"""Clients computed side by side send what each of them sends alone, to within rounding."""

import functools
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fedplan
from fedplan.errors import CheckpointError, ConfigError, DataError, PlanError
from fedplan.federation import Task
from fedplan.plan import RandomStream, model_parameters
from fedplan.plan.clients.rules import rule
from fedplan.simulation.chance import Chance
from fedplan.simulation.deployment import deploy
from fedplan.simulation.engines import choice
from fedplan.simulation.engines.batched.batched import Batched
from fedplan.simulation.gathering import Gathered
from fedplan.simulation.population import population_of
from fedplan.simulation.states import ClientState
from fedplan.simulation.work import Experiment, Work
from tests.simulation.cases import (
    BATCH,
    CLASSES,
    CONFIG,
    FEATURES,
    clients,
    data_of,
    net,
    same_bits,
    simulate,
)
from tests.simulation.federations import AGREEING, ROUNDING, Case
from tests.simulation.killed import CASES, run


def distance(one: fedplan.SyftModel, other: fedplan.SyftModel, start: nn.Module) -> float:
    """The largest difference, as a share of the update's largest entry."""
    triples = list(zip(one.params, other.params, model_parameters(start), strict=True))
    update = max(float((b - before).abs().max()) for _, b, before in triples)
    return max(float((a - b).abs().max()) for a, b, _ in triples) / update


def counted(result: fedplan.Simulation) -> list[Any]:
    """What the history counts; metrics differ by rounding."""
    return [row.model_copy(update={"seconds": 0.0, "metrics": {}}) for row in result.history]


@pytest.mark.some(6)
@pytest.mark.parametrize("name", AGREEING)
def test_a_round_is_that_of_clients_one_after_the_other(name: str) -> None:
    case = AGREEING[name]
    result, alone = case.simulate("batched"), case.simulate("sequential")
    assert result.engine == "batched"
    assert distance(result.model, alone.model, case.model()) <= ROUNDING.get(name, 1e-6)
    assert counted(result) == counted(alone)
    for ours, theirs in zip(result.history, alone.history, strict=True):
        assert ours.metrics.keys() == theirs.metrics.keys()
        for metric, mean in ours.metrics.items():
            assert mean.value == pytest.approx(theirs.metrics[metric].value, rel=1e-5)
            assert (mean.weight, mean.workers) == (
                theirs.metrics[metric].weight,
                theirs.metrics[metric].workers,
            )


@pytest.mark.some(2)
@pytest.mark.parametrize("name", CASES)
def test_whole_runs_count_what_clients_one_after_the_other_do(name: str) -> None:
    assert counted(run(name, engine="batched")) == counted(run(name))


def test_in_float64_they_differ_by_its_rounding() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        case = Case(data=lambda client: (data_of(client)[0].double(), data_of(client)[1]))
        result, alone = case.simulate("batched", 3), case.simulate("sequential", 3)
        assert distance(result.model, alone.model, case.model()) < 1e-13
    finally:
        torch.set_default_dtype(torch.float32)


def experiment_of(case: Case, data: Any = None) -> Experiment:
    deployment = deploy(case.model(), case.plans(), case.config, case.server)
    population = population_of(data or [case.data(client) for client in range(11)], 11 if data else None)
    return Experiment(deployment, population, Chance(RandomStream(0)), (), None, torch.device("cpu"))


def computed(engine: Any, experiment: Experiment, cycle: int = 1) -> list[Any]:
    """The average of a cycle in which all clients train."""
    deployment = experiment.deployment
    work = Work(
        experiment, Task.TRAINING, cycle, deployment.start, 0, tuple(range(11)), lambda _: ClientState()
    )
    with Gathered(deployment.strategy) as gathered:
        sent = list(engine.run(work, gathered))
        assert [one.client for one in sent] == list(range(11))
        return list(gathered.average(fedplan.federation.ServerState())[1].tensors)


@pytest.mark.some(3)
@pytest.mark.parametrize("at_once", [1, 2, 4, 11, 50])
def test_clients_are_computed_in_groups_of_any_size(at_once: int) -> None:
    experiment = experiment_of(Case(functools.partial(net, 0.4)))
    whole = computed(Batched(experiment, 11), experiment)
    for ours, theirs in zip(computed(Batched(experiment, at_once), experiment), whole, strict=True):
        assert abs(ours - theirs).max() <= 1e-6 * abs(theirs).max()


def test_a_group_is_as_large_as_the_cache_holds() -> None:
    experiment = experiment_of(Case())
    engine = Batched(experiment)
    assert engine.at_once is None
    computed(engine, experiment)
    assert engine.at_once is not None
    assert 100 < engine.at_once < 1_000_000


def test_a_learning_rate_that_changes_compiles_nothing_anew() -> None:
    schedule = {"schedule": "linear", "start": 0.3, "end": 0.1, "cycles": 4}
    experiment = experiment_of(Case(config={"lr": schedule}))
    engine = Batched(experiment)
    first = computed(engine, experiment)
    compiled = [len(plan._executors) for plan in engine._plans.values()]
    later = computed(engine, experiment, cycle=3)
    assert [len(plan._executors) for plan in engine._plans.values()] == compiled
    for rate, cycle in ((0.3, 1), (0.2, 3)):
        fixed = experiment_of(Case(config={"lr": rate}))
        expected = computed(Batched(fixed), fixed, cycle)
        for ours, theirs in zip(first if cycle == 1 else later, expected, strict=True):
            assert abs(ours - theirs).max() <= 1e-6 * abs(theirs).max()


class TestARunThatIsGoneOnWith:
    def test_has_the_bits_of_one_that_was_not_interrupted(self, tmp_path: Path) -> None:
        for rounds in (1, 3, 5):
            result = run("scaffold", checkpoint=tmp_path, rounds=rounds, engine="batched")
        assert same_bits(result.model, run("scaffold", engine="batched").model)

    @pytest.mark.parametrize(
        ("began", "goes_on", "words"),
        [
            ("batched", "sequential", r"computed \d+ clients side by side"),
            ("batched", "processes", r"computed \d+ clients side by side"),
            ("sequential", "batched", "computed each client alone"),
            ("processes", "batched", "computed each client alone"),
        ],
    )
    def test_keeps_its_engine(self, tmp_path: Path, began: str, goes_on: str, words: str) -> None:
        simulate(checkpoint=tmp_path, rounds=1, engine=began)
        with pytest.raises(CheckpointError, match=f"{words}.*engine='auto'"):
            simulate(checkpoint=tmp_path, engine=goes_on)

    @pytest.mark.parametrize("began", ["batched", "sequential"])
    def test_keeps_its_engine_also_by_itself(self, tmp_path: Path, began: str) -> None:
        simulate(checkpoint=tmp_path, rounds=1, engine=began)
        result = simulate(checkpoint=tmp_path, rounds=3, engine="auto")
        assert (result.engine == "batched") == (began == "batched")
        assert same_bits(result.model, simulate(rounds=3, engine=began).model)

    def test_keeps_the_size_of_its_groups(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        simulate(checkpoint=tmp_path, rounds=1, engine="batched")
        monkeypatch.setattr("fedplan.simulation.engines.batched.program.AT_ONCE_BYTES", 1)
        simulate(checkpoint=tmp_path, rounds=2, engine="batched")
        with zipfile.ZipFile(tmp_path / "checkpoint.zip") as file:
            assert json.loads(file.read("run.json"))["at_once"] > 100


class TestAnError:
    def test_says_in_whose_data_it_is(self) -> None:
        wrong = clients()
        wrong[4] = (wrong[4][0][:5], wrong[4][1])
        with pytest.raises(DataError, match="client 4: data and target differ"):
            simulate(clients=wrong, engine="batched")

    def test_says_for_whom_the_plan_failed(self) -> None:
        wrong = clients()
        wrong[4] = (wrong[4][0], wrong[4][1] + CLASSES)
        with pytest.raises(PlanError, match=r"client 4: .*out of bounds"):
            simulate(clients=wrong, engine="batched")

    def test_refuses_a_report_that_a_grid_would_refuse(self) -> None:
        broken = clients()
        broken[3] = (broken[3][0] * float("inf"), broken[3][1])
        server = {"min_diffs": 9, "max_diffs": 9}
        results = [
            simulate(clients=broken, server=server, cohort=9, rounds=3, engine=engine)
            for engine in ("batched", "sequential")
        ]
        assert counted(results[0]) == counted(results[1])
        assert sum(row.refused for row in results[0].history) > 0


def twice(x: Tensor, y: Tensor, lr: Tensor, w: Tensor, again: Tensor) -> tuple[Tensor, Tensor]:
    """A step that takes its parameter in two places."""
    loss = ((x @ (w + again) / 2).sum(1) - y).square().mean()
    return loss, w - lr * loss * torch.ones_like(w)


def unfollowed() -> dict[str, Any]:
    """A federation whose Plan takes its parameter twice, which cannot be done side by side."""
    spec, out = fedplan.PlanInputSpec, fedplan.PlanOutputSpec
    w = torch.ones(FEATURES, 2)
    plan = fedplan.trace(
        twice, torch.zeros(BATCH, FEATURES), torch.zeros(BATCH), torch.tensor([0.1]), w, w,
        inputs=[spec("data"), spec("target"), spec("clientConfigParam", name="lr"),
                spec("modelParam", index=0), spec("modelParam", index=0)],
        outputs=[out("loss"), out("modelParam", index=0)],
    )  # fmt: skip
    data = [(data_of(client)[0], data_of(client)[1].float()) for client in range(6)]
    return {"model": fedplan.SyftModel([w]), "plans": {"training_plan": plan}, "clients": data}


class TestAPlanThatCannotBeFollowedSideBySide:
    def test_is_refused_with_the_reason(self) -> None:
        told = unfollowed()
        with pytest.raises(ConfigError, match=r"takes it 2 times. Take engine='sequential'"):
            fedplan.simulate(
                told["model"], told["plans"], told["clients"], CONFIG, {}, rounds=1, engine="batched"
            )

    def test_is_computed_one_after_the_other_by_the_engine_that_chooses(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        told = unfollowed()
        results = []
        with caplog.at_level(logging.INFO, "fedplan.simulation"):
            for engine in ("auto", "sequential"):
                found = fedplan.simulate(
                    told["model"], told["plans"], told["clients"], {**CONFIG, "lr": 0.001}, {}, rounds=2,
                    engine=engine,
                )  # fmt: skip
                results.append(found)
        assert same_bits(results[0].model, results[1].model)
        assert "takes it 2 times" in caplog.text


class TestAnOperationThatCannotBeComputedForManyClients:
    """There is none in the op table; so here the rule of one is taken away."""

    @pytest.fixture(autouse=True)
    def without_rules(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def found(name: str) -> Any:
            if name in ("aten.tanh.default", "aten.sort.default"):
                raise RuntimeError(f"nobody knows {name}")
            return rule(name)

        monkeypatch.setattr("fedplan.plan.clients.compiler.rule", found)

    def test_is_a_reason_to_refuse_the_plan(self) -> None:
        case = Case(lambda: nn.Sequential(net(), nn.Tanh()))
        with pytest.raises(PlanError, match=r"aten.tanh.*engine='sequential', or 'processes'"):
            case.simulate("batched")

    def test_is_a_reason_to_choose_another_engine(self, caplog: pytest.LogCaptureFixture) -> None:
        case = Case(lambda: nn.Sequential(net(), nn.Tanh()))
        with caplog.at_level(logging.INFO, "fedplan.simulation"):
            result = case.simulate("auto", 2)
        assert same_bits(result.model, case.simulate("sequential", 2).model)
        assert "aten.tanh" in caplog.text

    def test_does_not_matter_in_what_only_measures(self) -> None:
        case = Case(metrics={"spread": lambda output, _: output.sort(1).values[:, -1].mean()})
        result, alone = case.simulate("batched"), case.simulate("sequential")
        assert distance(result.model, alone.model, case.model()) <= 1e-6
        ours, theirs = (one.history[0].metrics["spread"] for one in (result, alone))
        assert ours == theirs


class TestTheEngineThatChooses:
    def test_computes_many_small_clients_side_by_side(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(choice, "_GAIN", 100.0)  # the core may be busy just when it is tried
        options: dict[str, Any] = {"clients": clients(60), "rounds": 2, "workers": 1}
        with caplog.at_level(logging.INFO, "fedplan.simulation"):
            result = simulate(engine="auto", **options)
        assert result.engine == "batched"
        assert "clients at once, for a cycle takes about: sequential" in caplog.text
        assert same_bits(result.model, simulate(engine="batched", **options).model)

    def test_draws_the_data_of_each_client_once(self) -> None:
        asked: list[int] = []

        def data(client: int) -> Any:
            asked.append(client)
            return data_of(client)

        simulate(clients=data, population=1000, cohort=20, rounds=2, engine="auto", workers=1)
        assert len(asked) == len(set(asked)) == 40

    @pytest.mark.some(3)
    @pytest.mark.parametrize("name", ["loaders of torch", "dropout", "SCAFFOLD"])
    def test_leaves_no_trace_of_what_it_tried(self, name: str) -> None:
        case = AGREEING[name]
        result = case.simulate("auto", 2, workers=1)
        assert same_bits(result.model, case.simulate(result.engine, 2).model)
