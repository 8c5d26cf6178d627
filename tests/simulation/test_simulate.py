"""`simulate`: whole rounds, what comes of them, and what is refused."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import matplotlib as mpl
import pytest
import torch
from torch.nn import functional as F

import fedplan
from fedplan.errors import ConfigError, DataError, HostingError, StuckCycleError
from tests.simulation.cases import (
    BATCH,
    CONFIG,
    clients,
    data_of,
    model_of,
    net,
    plans_of,
    same_bits,
    simulate,
)

mpl.use("agg")


def by_hand(rounds: int, count: int, server_lr: float = 1.0) -> list[torch.Tensor]:
    """FedAvg in eager PyTorch, weighted by samples."""
    shared = [p.detach().clone() for p in net().parameters()]
    for _ in range(rounds):
        total, mean = 0, [torch.zeros_like(p, dtype=torch.float64) for p in shared]
        for client in range(count):
            model = net()
            fedplan.SyftModel(shared).load_into(model)
            optimizer = torch.optim.SGD(model.parameters(), lr=CONFIG["lr"])
            x, y = data_of(client)
            for _ in range(CONFIG["max_epochs"]):
                for start in range(0, len(x), BATCH):
                    optimizer.zero_grad()
                    F.cross_entropy(model(x[start : start + BATCH]), y[start : start + BATCH]).backward()
                    optimizer.step()
            total += len(x)
            mean = [
                part + len(x) * (before - after.detach())
                for part, before, after in zip(mean, shared, model.parameters(), strict=True)
            ]
        shared = [
            (before - server_lr * (part / total)).float() for before, part in zip(shared, mean, strict=True)
        ]
    return shared


class TestTheRounds:
    def test_are_those_of_fedavg_by_hand(self) -> None:
        result = simulate(rounds=3, server={"strategy": {"name": "fedavg", "lr": 0.5}})
        for ours, theirs in zip(result.model.params, by_hand(3, 10, 0.5), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)

    def test_tell_what_came_of_them(self) -> None:
        result = simulate(evaluates=True, rounds=2, server={"min_diffs": 4, "max_diffs": 4})
        (first, second) = result.history
        assert (first.cycle, first.checkpoint, first.workers, first.reports) == (1, 1, 4, 4)
        assert (second.cycle, second.checkpoint, second.phase) == (2, 2, "done")
        assert set(second.metrics) == {"loss", "accuracy", "training_loss", "training_accuracy"}
        assert second.metrics["loss"].value < first.metrics["loss"].value
        assert 4 * 300 < first.report_bytes < 4 * 1000

    def test_measure_each_new_checkpoint_on_the_test_data(self) -> None:
        test = data_of(99)
        result = simulate(evaluates=True, rounds=5, test=test, every=2)
        assert list(result.history.values("test_accuracy")) == [2, 4, 5]
        model = net()
        result.model.load_into(model)
        share = (model(test[0]).argmax(1) == test[1]).float().mean()
        assert result.history[-1].metrics["test_accuracy"].value == pytest.approx(float(share))

    def test_measure_the_last_checkpoint_also_where_the_goal_ends_them(self) -> None:
        stop = {"metric": "training_loss", "mode": "min", "patience": 2}
        options: dict[str, Any] = {"evaluates": True, "rounds": 50, "client_config": {**CONFIG, "lr": 1.5}}
        result = simulate(**options, server={"stop": stop}, test=data_of(99), every=50)
        training = [row for row in result.history if row.task == "training"]
        assert 2 < len(training) < 50
        assert list(result.history.values("test_loss")) == [len(training)]

    def test_may_be_measured_by_a_function(self) -> None:
        result = simulate(rounds=2, test=lambda model: {"first": float(model.params[0][0, 0])})
        assert result.history.values("test_first")[2] == float(result.model.params[0][0, 0])

    def test_end_when_the_goal_is_reached_and_the_last_checkpoint_is_measured(self) -> None:
        stop = {"metric": "loss", "mode": "min", "value": 10.0}
        result = simulate(evaluates=True, rounds=5, server={"stop": stop, "evaluation": {"reports": 6}})
        assert [(row.cycle, row.task, row.checkpoint) for row in result.history] == [
            (1, "training", 1),
            (2, "evaluation", 2),
        ]
        assert (result.history[1].reports, set(result.history[1].metrics)) == (6, {"loss", "accuracy"})

    def test_have_as_many_evaluations_as_their_owner_wants_whatever_the_cohort(self) -> None:
        server = {"num_cycles": 1, "evaluation": {"reports": 8}}
        training, evaluation = simulate(evaluates=True, cohort=3, server=server, rounds=None).history
        assert (training.reports, evaluation.reports, evaluation.workers) == (3, 8, 8)

    def test_take_some_clients_for_evaluation_alone(self) -> None:
        server = {"max_diffs": 6, "min_diffs": 6, "evaluation": {"fraction": 0.25}}
        result = simulate(evaluates=True, rounds=1, server=server, cohort=6)
        (row,) = result.history
        assert (row.reports, row.workers) == (6, 7)
        assert row.metrics["loss"].workers == 7
        assert row.metrics["training_loss"].workers == 6

    def test_go_on_after_one_that_failed(self) -> None:
        server = {"strategy": {"name": "fedavg", "lr": 1e300}}
        result = simulate(rounds=2, server=server)
        first, second = result.history
        assert (first.phase, first.checkpoint, second.checkpoint) == ("failed", 1, 1)
        assert "the average does not fit the model" in (first.failure or "")
        assert (first.reports, first.metrics) == (0, {})
        assert same_bits(result.model, fedplan.SyftModel([p.detach() for p in net().parameters()]))

    def test_replace_clients_whose_reports_are_refused(self) -> None:
        x, y = data_of(3)
        broken = [*clients(10)]
        broken[3] = (x * float("inf"), y)
        server = {"min_diffs": 9, "max_diffs": 9}
        result = simulate(clients=broken, server=server, cohort=9, rounds=4)
        assert {row.reports for row in result.history} == {9}
        assert sum(row.refused for row in result.history) > 0
        assert all(torch.isfinite(param).all() for param in result.model.params)

    def test_leave_threads_and_random_numbers_as_they_were(self) -> None:
        torch.set_num_threads(2)
        torch.manual_seed(4)
        before = torch.get_rng_state()
        try:
            simulate(clients=data_of, population=10, rounds=1)
            assert torch.get_num_threads() == 2
            assert torch.equal(torch.get_rng_state(), before)
        finally:
            torch.set_num_threads(1)

    def test_depend_on_the_seed_and_on_nothing_else(self) -> None:
        results = [simulate(kind="dropout", cohort=5, rounds=3, seed=seed) for seed in (1, 1, 2)]
        assert same_bits(results[0].model, results[1].model)
        assert not same_bits(results[0].model, results[2].model)

    def test_an_averaging_plan_decides(self) -> None:
        def average(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple((tensors[k] + tensors[4 + k]) / 2 for k in range(4))

        parts = [p.detach() for p in net().parameters()]
        plan = fedplan.trace(average, *parts, *parts)
        ours = simulate(server_averaging_plan=plan, cohort=2, rounds=2)
        theirs = simulate(server={"min_diffs": 2, "max_diffs": 2, "weighting": "uniform"}, rounds=2)
        for one, other in zip(ours.model.params, theirs.model.params, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        assert ours.history[0].reports == 2

    def test_say_once_what_a_worker_would_say_in_each_cycle(self, caplog: pytest.LogCaptureFixture) -> None:
        example = (torch.zeros(BATCH, 6), torch.zeros(BATCH, dtype=torch.int64))
        plan = fedplan.training_plan(net(), F.cross_entropy, example=example, pin_batch=True)
        with caplog.at_level(logging.WARNING):
            fedplan.simulate(net(), {"training_plan": plan}, clients(), CONFIG, {}, rounds=2, progress=False)
        assert Counter(record.levelname for record in caplog.records) == {"WARNING": 1}


class TestTheResult:
    def test_shows_itself(self) -> None:
        result = simulate(rounds=2, engine="sequential")
        assert repr(result).startswith("<Simulation of 'm' 1.0: 2 cycles, training_accuracy")
        assert "engine sequential" in repr(result)
        page = result._repr_html_()
        assert page.count("<tr>") == 3
        assert "<th>training_loss</th>" in page

    def test_draws_its_metrics(self) -> None:
        result = simulate(evaluates=True, rounds=3, test=data_of(50))
        lines = result.plot().get_lines()
        assert [line.get_label() for line in lines] == ["test_accuracy", "test_loss"]
        assert list(result.plot("loss").get_lines()[0].get_xdata()) == [1, 2, 3]
        mpl.pyplot.close("all")
        with pytest.raises(ConfigError, match="no cycle has a metric 'nothing'"):
            result.plot("nothing")

    def test_is_a_table(self) -> None:
        result = simulate(rounds=2)
        rows = result.history.to_dicts()
        assert [row["cycle"] for row in rows] == [1, 2]
        assert {"report_bytes", "refused", "late", "gone", "seconds", "training_loss"} <= set(rows[0])
        assert result.history.to_csv().splitlines()[0].startswith("cycle,task,checkpoint")

    def test_hands_out_what_to_host(self) -> None:
        server = {"strategy": {"name": "scaffold", "population": 10}, "min_diffs": 3}
        hosting = simulate(kind="scaffold", server={**server}, rounds=1).hosting()
        assert set(hosting) == {"model", "client_plans", "client_config", "server_config", "variants"}
        assert hosting["server_config"] == server
        assert hosting["variants"] == ()  # browsers cannot keep a private tensor
        assert set(simulate(rounds=1).hosting()) == set(hosting) - {"variants"}

    def test_rows_are_told_as_they_come(self) -> None:
        seen: list[Any] = []
        result = simulate(rounds=3, progress=seen.append)
        assert seen == list(result.history)

    def test_ctrl_c_gives_what_there_is(self) -> None:
        def stop(row: Any) -> None:
            if row.cycle == 2:
                raise KeyboardInterrupt

        result = simulate(rounds=5, progress=stop)
        assert (len(result.history), result.interrupted) == (2, True)
        assert "interrupted" in repr(result)
        assert same_bits(result.model, simulate(rounds=2).model)

    def test_ctrl_c_in_the_middle_of_a_round_gives_the_rounds_before(self) -> None:
        seen: list[int] = []

        def data(client: int) -> Any:
            seen.append(client)
            if len(seen) == 16:
                raise KeyboardInterrupt
            return data_of(client)

        result = simulate(clients=data, population=10, rounds=5)
        assert (len(result.history), result.interrupted) == (1, True)
        assert same_bits(result.model, simulate(rounds=1).model)


class TestIsRefused:
    @pytest.mark.parametrize(
        ("server", "message"),
        [
            ({"min_diff": 3}, "'min_diff' is not a key of it"),
            ({"strategy": {"name": "krum", "f": 3}, "min_diffs": 4}, "needs at least 9 reports"),
            ({"strategy": "fedprox"}, "there is none with the name 'fedprox'"),
            ({"strategy": "scaffold"}, "population"),
            (
                {"strategy": {"name": "scaffold", "population": 9}},
                "needs a model that holds control variates",
            ),
            ({"stop": {"metric": "loss", "mode": "min", "value": 1.0}}, "the Plans measure no 'loss'"),
            ({"evaluation": {"fraction": 0.1}}, "'evaluation' is set, and there is no Plan"),
            ({"iterative_plan": True}, "no averaging Plan was sent"),
        ],
    )
    def test_what_a_grid_refuses_in_its_words(self, server: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            simulate(server=server)

    def test_a_plan_of_another_model(self) -> None:
        model = torch.nn.Linear(6, 3)
        with pytest.raises(HostingError, match="the Plan 'training_plan' cannot be hosted"):
            fedplan.simulate(model, plans_of(), clients(), CONFIG, {}, rounds=1)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"rounds": None}, "how many rounds"),
            ({"rounds": 0}, "rounds must be a positive integer"),
            ({"rounds": 9, "server": {"num_cycles": 3}}, "num_cycles is 3"),
            ({"cohort": 11}, "there are only 10 clients"),
            ({"cohort": 5, "server": {"max_workers": 4}}, "max_workers is 4"),
            ({"cohort": 5, "server": {"min_diffs": 6}}, "a cycle needs 6 clients"),
            ({"cohort": 2, "server": {"min_workers": 3}}, "a cycle needs 3 clients"),
            ({"engine": "ray-gun"}, "there is no engine 'ray-gun'"),
            ({"test": (1, 2, 3)}, "test is a tuple"),
            ({"test": data_of(0)}, "there is none: make one with `evaluation_plan`"),
            ({"test": lambda model: 3}, "the test function returned a int"),
            ({"seed": -1}, "seed of random numbers"),
            ({"device": "abacus"}, "no training on the device 'abacus'"),
            ({"behaviour": "evil"}, "another Behaviour, not a str"),
            ({"report_format": "int8"}, "this model does not take diffs as int8"),
            ({"plan": "other"}, "there is no training Plan 'other'; the Plans are: 'training_plan'"),
            ({"client_config": {**CONFIG, "lr": None}}, "'lr'"),
            ({"clients": clients()[0][0]}, "clients is a Tensor"),
            ({"clients": []}, "clients is empty"),
            ({"clients": data_of}, "population=1000"),
            ({"population": 3}, "leave population out"),
        ],
    )
    def test_what_cannot_be_simulated(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            simulate(**options)

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ((), "client 0: this is a tuple of 0"),
            (7, "client 0: this is a int"),
            ((torch.zeros(3, 6), torch.zeros(2)), "client 0: data and target differ"),
        ],
    )
    def test_data_that_nobody_can_train_on(self, entry: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            simulate(clients=[entry], rounds=1)

    def test_a_model_that_is_none(self) -> None:
        with pytest.raises(ConfigError, match="the model is a int"):
            fedplan.simulate(3, plans_of(), clients(), CONFIG, {}, rounds=1)
        assert len(list(model_of().parameters())) == 4


class TestATrainingThatDiverges:
    SCHEDULE: ClassVar[dict[str, Any]] = {"schedule": "values", "values": [0.2, 0.2, 1e30]}

    def diverge(self, **options: Any) -> StuckCycleError:
        config = {**CONFIG, "lr": self.SCHEDULE}
        with pytest.raises(StuckCycleError) as error:
            simulate(client_config=config, cohort=5, rounds=5, **options)
        return error.value

    def test_is_given_up_when_nobody_is_left(self) -> None:
        error = self.diverge()
        assert "cycle 3 has 0 reports and can never close" in str(error)
        assert (
            "10 reports were refused, the last one because: the diff does not fit the model: tensor"
            in str(error)
        )

    def test_is_given_up_before_all_of_a_large_population_are_trained(self) -> None:
        asked: list[int] = []

        def data(client: int) -> Any:
            asked.append(client)
            return data_of(client % 10)

        error = self.diverge(clients=data, population=1_000_000)
        assert "100 reports of cycle 3 were refused in succession" in str(error)
        assert len(asked) == 2 * 5 + 100

    def test_leaves_the_cycles_before(self, tmp_path: Path) -> None:
        before = simulate(cohort=5, rounds=2)
        for error in (self.diverge(), self.diverge(checkpoint=tmp_path)):
            assert [row.cycle for row in error.simulation.history] == [1, 2]
            assert same_bits(error.simulation.model, before.model)
        assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 2

    def test_is_none_when_some_reports_are_refused_among_many(self) -> None:
        def data(client: int) -> Any:
            x, y = data_of(client % 10)
            return (x * float("nan"), y) if client % 10 else (x, y)

        result = simulate(clients=data, population=100_000, cohort=30, rounds=1)
        (row,) = result.history
        assert (row.reports, row.refused > 200) == (30, True)
