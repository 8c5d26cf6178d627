"""Secure rounds in a simulation: the sum of whole numbers is that of the protocol, bit for bit."""

import math

import pytest
import torch

from fedplan.errors import ConfigError
from fedplan.simulation import Availability
from fedplan.simulation.states import ClientStates
from tests.long import only_in_the_long_form
from tests.simulation.cases import clients, same_bits, simulate

LEAVING = Availability(dropout=0.3, seconds=60.0, spread=0.5)


def server(count=10, **changes):
    secure = {"workers": count, "clip": 0.25} | changes.pop("secure_aggregation", {})
    return {"max_weight": 20.0, "secure_aggregation": secure} | changes


def run(count=10, *, server_config=None, **options):
    told = {"clients": clients(count), "server": server_config or server(count)}
    return simulate(**told | options)


def told(result):
    """What a history says, without how long the rows took to compute."""
    return [row.model_dump(exclude={"seconds"}) for row in result.history]


def test_the_sum_is_that_of_the_protocol_also_when_clients_leave_at_each_stage():
    plain = run(20, availability=LEAVING, seed=1)
    masked = run(20, availability=LEAVING, seed=1, secure_protocol=True)
    assert same_bits(plain.model, masked.model)
    assert told(plain) == told(masked)
    assert [(row.workers, row.reports, row.gone) for row in plain.history] == [(17, 16, 4), (18, 16, 6)]


@only_in_the_long_form
@pytest.mark.timeout(3600)
def test_a_thousand_clients_of_which_thirty_per_cent_leave_have_the_sum_of_the_protocol():
    options = {"availability": Availability(dropout=0.25), "rounds": 2, "seed": 7}
    plain = run(1000, **options)
    masked = run(1000, **options, secure_protocol=True)
    assert [row.phase for row in plain.history] == ["done"] * 2
    assert same_bits(plain.model, masked.model)
    assert told(plain) == told(masked)


@pytest.mark.parametrize(
    ("seed", "ends"),
    [
        (2, ["6 workers answered", None, None, "7 workers reported, and 8 are needed"]),
        (5, [None, "6 workers reported", "5 workers shared their secrets", "8 workers told their keys"]),
    ],
)
def test_a_round_that_too_many_leave_has_no_sum_and_says_why_and_the_next_one_works(seed, ends):
    options = {"availability": Availability(dropout=0.4), "rounds": 4, "seed": seed}
    plain, masked = run(12, **options), run(12, **options, secure_protocol=True)
    assert told(plain) == told(masked)
    for row, end in zip(plain.history, ends, strict=True):
        assert row.failure is None if end is None else end in row.failure
        assert row.phase == ("done" if end is None else "failed")
    assert plain.history[-1].checkpoint == 1 + [*ends[:-1]].count(None)


@pytest.mark.parametrize("engine", ["processes", "batched", "auto"])
def test_every_engine_adds_the_same_numbers_up(engine):
    expected, found = run(rounds=2), run(rounds=2, engine=engine, workers=2)
    assert [row.reports for row in found.history] == [10, 10]
    if engine == "processes":
        assert same_bits(expected.model, found.model)
    for one, other in zip(expected.model.params, found.model.params, strict=True):
        torch.testing.assert_close(one, other, atol=0.05, rtol=0)


def test_a_run_that_is_gone_on_with_has_the_bits_of_one_that_was_not_interrupted(tmp_path):
    whole = run(rounds=3)
    run(rounds=2, checkpoint=tmp_path)
    assert same_bits(run(rounds=3, checkpoint=tmp_path, secure_protocol=True).model, whole.model)


def test_weights_metrics_and_evaluation_are_those_of_a_cycle_without_masks():
    options = {"evaluates": True, "rounds": 1, "clients": clients(10)}
    bare = simulate(**options, server={"max_weight": 20.0})
    secure = simulate(**options, server=server())
    (one,), (other,) = bare.history, secure.history
    assert (one.reports, one.samples, set(one.metrics)) == (other.reports, other.samples, set(other.metrics))
    for name, metric in one.metrics.items():
        assert other.metrics[name].value == pytest.approx(metric.value, abs=1e-6)
        assert other.metrics[name].weight == metric.weight
    for exact, rounded in zip(bare.model.params, secure.model.params, strict=True):
        torch.testing.assert_close(rounded, exact, atol=0.01, rtol=0)


def test_what_a_report_cannot_hold_is_in_the_next_one():
    coarse = server(secure_aggregation={"bits": 4, "clip": 0.01})
    found, exact = run(server_config=coarse, rounds=8), simulate(rounds=8, server={"max_weight": 20.0})
    one, other = (result.history[-1].metrics["training_loss"].value for result in (found, exact))
    assert one == pytest.approx(other, rel=0.1)


def test_each_client_whose_report_is_in_the_sum_remembers_it_also_one_that_leaves_before_the_last_stage(
    monkeypatch,
):
    put, remembered = ClientStates.put, []

    def noting(states, client, state):
        remembered.append(client)
        put(states, client, state)

    monkeypatch.setattr(ClientStates, "put", noting)
    rows = run(20, availability=LEAVING, seed=1).history
    assert len(remembered) == sum(row.reports for row in rows)


def test_a_client_whose_report_is_not_finite_leaves_the_round():
    broken = clients(10)
    broken[3] = (torch.full_like(broken[3][0], math.nan), broken[3][1])
    results = [run(clients=broken, secure_protocol=whole, rounds=1) for whole in (False, True)]
    assert [(row.workers, row.reports, row.refused) for row in results[0].history] == [(10, 9, 1)]
    assert told(results[0]) == told(results[1])
    assert same_bits(results[0].model, results[1].model)


def test_uniform_weights_count_each_client_once():
    result = run(server_config={"weighting": "uniform", "secure_aggregation": {"workers": 10, "clip": 0.25}})
    assert [(row.reports, row.samples) for row in result.history] == [(10, 0.0)] * 2


def test_a_cohort_that_is_no_round_is_refused():
    with pytest.raises(ConfigError, match=r"secure_aggregation.workers is 10: a grid would take no more"):
        run(12, server_config=server(10), cohort=12)
    with pytest.raises(ConfigError, match="a cycle needs 7 clients"):
        run(10, cohort=6)


def test_the_protocol_of_a_model_without_secure_aggregation_is_refused():
    with pytest.raises(ConfigError, match="put secure_aggregation into it"):
        simulate(secure_protocol=True)


def test_what_a_grid_refuses_is_refused():
    with pytest.raises(ConfigError, match="the robust rule median compares single reports"):
        run(server_config=server(strategy="median"))
