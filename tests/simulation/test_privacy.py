"""Differential privacy in a simulation: what a grid does, with noise that a seed decides."""

import pytest
import torch

from fedplan.errors import ConfigError
from fedplan.federation.privacy import epsilon_after, multiplier_for
from tests.simulation.cases import same_bits, simulate

PRIVACY = {"clip": 0.5, "noise_multiplier": 2.0, "cohort": 10, "delta": 1e-5}


def test_the_same_seed_gives_the_same_noise_and_another_seed_another() -> None:
    one, again, other = (simulate(server={"privacy": PRIVACY}, seed=seed) for seed in (1, 1, 2))
    assert same_bits(one.model, again.model)
    assert not same_bits(one.model, other.model)


def test_each_cycle_has_noise_of_its_own() -> None:
    """A learning rate of nothing: all that changes the model is noise of σ / cohort = 0.1."""
    config = {"name": "m", "version": "1.0", "batch_size": 4, "lr": 0.0}
    models = [
        simulate(server={"privacy": PRIVACY}, client_config=config, rounds=rounds, seed=3).model.params
        for rounds in (1, 2)
    ]
    start = simulate(server={}, client_config=config, rounds=1, seed=3).model.params
    first = torch.cat([(a - b).flatten() for a, b in zip(models[0], start, strict=True)])
    second = torch.cat([(a - b).flatten() for a, b in zip(models[1], models[0], strict=True)])
    for noise in (first, second):
        assert 0.06 < float(noise.std()) < 0.14
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.5


@pytest.mark.parametrize("engine", ["batched", "processes"])
def test_other_engines_clip_and_add_the_same_noise(engine: str) -> None:
    server = {"privacy": PRIVACY, "strategy": "fedadam"}
    expected, found = (simulate(server=server, seed=4, engine=name) for name in ("sequential", engine))
    for one, other in zip(expected.model.params, found.model.params, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_history_is_the_ledger_and_says_nothing_of_the_workers_data() -> None:
    history = simulate(server={"privacy": PRIVACY}, rounds=3).history
    for row in history:
        assert row.privacy is not None
        assert row.privacy.epsilon == pytest.approx(epsilon_after(row.cycle, 2.0, 1e-5))
        assert (row.privacy.participants, row.privacy.checkpoint) == (10, row.cycle + 1)
        assert (row.samples, row.metrics) == (0, {})


def test_no_cycle_is_simulated_that_would_exceed_the_budget() -> None:
    budget = {"noise_multiplier": multiplier_for(4.0, 1e-5, 2), "max_epsilon": 4.0}
    assert len(simulate(server={"privacy": PRIVACY | budget}, rounds=5).history) == 2


def test_one_client_with_a_huge_report_counts_no_more_than_its_clip() -> None:
    """The learning rate explodes the reports; clipped, the sum moves by ten clips over the cohort at most."""
    config = {"name": "m", "version": "1.0", "batch_size": 4, "lr": 1e6}
    privacy = PRIVACY | {"noise_multiplier": 1e-3}
    after = simulate(server={"privacy": privacy}, client_config=config, rounds=1).model.params
    start = simulate(server={}, client_config=config | {"lr": 0.0}, rounds=1).model.params
    moved = torch.cat([(a - b).flatten() for a, b in zip(after, start, strict=True)])
    assert 0 < float(moved.norm()) < 0.51


def test_what_a_grid_refuses_is_refused_in_its_words() -> None:
    with pytest.raises(ConfigError, match="one by one"):
        simulate(server={"privacy": PRIVACY, "strategy": "median"})
    with pytest.raises(ConfigError, match="group norm"):
        simulate(kind="norm", server={"privacy": PRIVACY})
    with pytest.raises(ConfigError, match="evaluation Plan"):
        simulate(evaluates=True, server={"privacy": PRIVACY})
