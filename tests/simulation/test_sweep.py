"""`sweep`: all combinations of some settings, each with several seeds."""

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

import fedplan
from fedplan.errors import ConfigError
from tests.simulation.cases import CONFIG, clients, data_of, model_of, plans_of, same_bits, simulate

mpl.use("agg")


def sweep(**options: Any) -> fedplan.Sweep:
    told: dict[str, Any] = {"rounds": 2, "cohort": 4, "test": data_of(99), "progress": False, **options}
    server = told.pop("server", {})
    return fedplan.sweep(model_of(), plans_of(evaluates=True), clients(), CONFIG, server, **told)


class TestAllCombinations:
    def test_are_simulated_with_each_seed(self) -> None:
        found = sweep(grid={"lr": [0.05, 0.2], "strategy": ["fedavg", "fedadam"]}, seeds=2)
        assert [(run.settings["lr"], run.settings["strategy"], run.seed) for run in found.runs] == [
            (lr, strategy, seed)
            for lr in (0.05, 0.2)
            for strategy in ("fedavg", "fedadam")
            for seed in (0, 1)
        ]
        assert len({run.simulation.model.serialize() for run in found.runs}) == 8

    def test_are_the_simulations_that_one_would_make_by_hand(self) -> None:
        grid = {"strategy.lr": [0.5], "strategy": ["fedavgm"], "cohort": [3], "lr": [0.1], "max_diffs": [2]}
        (run,) = sweep(grid=grid, seeds=[7], server={"weighting": "uniform"}).runs
        by_hand = simulate(
            evaluates=True,
            server={"weighting": "uniform", "max_diffs": 2, "strategy": {"name": "fedavgm", "lr": 0.5}},
            client_config={**CONFIG, "lr": 0.1},
            cohort=3,
            seed=7,
        )
        assert same_bits(run.simulation.model, by_hand.model)
        assert run.seed == 7

    def test_may_set_a_strategys_own_settings(self) -> None:
        server = {"strategy": {"name": "fedadam", "tau": 0.1}}
        found = sweep(grid={"strategy.lr": [0.01, 0.5]}, seeds=1, server=server)
        hosted = [run.simulation.hosting()["server_config"]["strategy"] for run in found.runs]
        assert hosted == [{"name": "fedadam", "tau": 0.1, "lr": lr} for lr in (0.01, 0.5)]

    def test_are_told_as_they_come(self) -> None:
        seen: list[str] = []
        sweep(grid={"lr": [0.1, 0.2]}, seeds=1, progress=lambda run: seen.append(run.label))
        assert seen == ["lr=0.1", "lr=0.2"]

    def test_are_not_computed_again_that_are_in_the_folder(self, tmp_path: Path) -> None:
        first = sweep(grid={"lr": [0.1]}, seeds=2, checkpoint=tmp_path)
        (tmp_path / "marker").touch()
        more = sweep(grid={"lr": [0.3, 0.1]}, seeds=2, checkpoint=tmp_path)
        assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 4
        for old, new in zip(first.runs, more.runs[2:], strict=True):
            assert [row.seconds for row in old.simulation.history] == [
                row.seconds for row in new.simulation.history
            ]

    def test_end_early_with_ctrl_c(self) -> None:
        def stop(run: fedplan.simulation.SweepRun) -> None:
            if run.seed == 1:
                raise KeyboardInterrupt

        found = sweep(grid={"lr": [0.1, 0.2]}, seeds=2, progress=stop)
        assert found.interrupted
        assert [run.seed for run in found.runs] == [0]


@pytest.fixture(scope="module")
def diverged() -> fedplan.Sweep:
    return sweep(grid={"lr": [1e30, 0.1]}, seeds=2)


class TestATrainingThatDiverges:
    @pytest.fixture
    def found(self, diverged: fedplan.Sweep) -> fedplan.Sweep:
        return diverged

    def test_does_not_end_the_sweep(self, found: fedplan.Sweep) -> None:
        assert [run.failure is None for run in found.runs] == [False, False, True, True]
        assert "can never close" in (found.runs[0].failure or "")
        assert "NaN" in (found.runs[0].failure or "")
        assert [len(run.simulation.history) for run in found.runs] == [0, 0, 2, 2]

    def test_is_shown_in_the_table(self, found: fedplan.Sweep) -> None:
        wild, trained = found.table("test_loss")
        assert (wild["mean"], wild["spread"], wild["seeds"]) == (None, None, 0)
        assert wild["failure"] == found.runs[0].failure
        assert (trained["seeds"], trained["failure"]) == (2, None)
        assert "lr=1e+30: no seed; failed: cycle 1" in repr(found)
        assert "can never close" in found._repr_html_()

    def test_is_not_the_best(self, found: fedplan.Sweep) -> None:
        assert found.best("test_loss", "max") == {"lr": 0.1}
        with pytest.raises(ConfigError, match="a simulation of each of these settings failed"):
            fedplan.Sweep(found.runs[:2]).best("test_loss", "max")

    def test_is_not_drawn(self, found: fedplan.Sweep) -> None:
        axes = found.plot("test_loss")
        assert [line.get_label() for line in axes.get_lines()] == ["lr=0.1"]
        mpl.pyplot.close("all")


@pytest.fixture(scope="module")
def found() -> fedplan.Sweep:
    return sweep(grid={"lr": [0.01, 0.3]}, seeds=3, rounds=3)


class TestItsTable:
    def test_has_mean_and_spread_of_the_last_value(self, found: fedplan.Sweep) -> None:
        first, second = found.table("test_loss")
        last = [run.simulation.history[-1].metrics["test_loss"].value for run in found.runs[:3]]
        assert first == {
            "lr": 0.01,
            "mean": pytest.approx(statistics.mean(last)),
            "spread": pytest.approx(statistics.stdev(last)),
            "seeds": 3,
        }
        assert second["mean"] < first["mean"]
        assert found.best("test_loss", "min") == {"lr": 0.3}
        assert found.best("test_loss", "max") == {"lr": 0.01}

    def test_shows_itself(self, found: fedplan.Sweep) -> None:
        lines = repr(found).splitlines()
        assert lines[0] == "<Sweep of 6 simulations, test_accuracy:"
        assert lines[1].startswith("  lr=0.01: 0.")
        assert " ± " in lines[2]
        page = found._repr_html_()
        assert page.count("<tr>") == 3
        assert "<th>spread</th>" in page

    def test_has_all_rows(self, found: fedplan.Sweep) -> None:
        rows = found.to_dicts()
        assert len(rows) == 18
        assert {(row["lr"], row["seed"], row["cycle"]) for row in rows} == {
            (lr, seed, cycle) for lr in (0.01, 0.3) for seed in range(3) for cycle in (1, 2, 3)
        }

    def test_draws_a_line_and_a_band_for_each_setting(self, found: fedplan.Sweep) -> None:
        axes = found.plot("test_loss")
        assert [line.get_label() for line in axes.get_lines()] == ["lr=0.01", "lr=0.3"]
        assert list(axes.get_lines()[0].get_xdata()) == [1, 2, 3]
        assert len(axes.collections) == 2
        mpl.pyplot.close("all")

    def test_says_when_there_is_nothing_in_it(self, found: fedplan.Sweep) -> None:
        assert repr(fedplan.Sweep([])) == "<Sweep of 0 simulations, in which nothing was measured>"
        assert "nothing was measured" in fedplan.Sweep([])._repr_html_()
        with pytest.raises(ConfigError, match="no cycle has a metric 'other'"):
            found.table("other")
        with pytest.raises(ConfigError, match="the mode is 'best'"):
            found.best("test_loss", "best")


class TestIsRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"grid": {}}, "grid is a dict of values by name"),
            ({"grid": [0.1]}, "grid is a dict of values by name"),
            ({"grid": {"lr": 0.1}}, "grid: 'lr' is 0.1; it must be a list"),
            ({"grid": {"strategy": "fedavg"}}, "grid: 'strategy' is 'fedavg'; it must be a list"),
            ({"grid": {"lr": []}}, "it must be a list of values"),
            ({"grid": {"learning_rate": [1]}}, "there is no setting 'learning_rate'"),
            ({"grid": {"seed": [1]}}, "there is no setting 'seed'"),
            ({"grid": {"lr": [0.1]}, "seeds": 0}, "seeds must be a positive integer"),
            ({"grid": {"lr": [0.1]}, "seeds": []}, "seeds is empty"),
            ({"grid": {"strategy.beta": [0.1]}}, "beta"),
        ],
    )
    def test_what_nobody_would_read(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            sweep(**options)
