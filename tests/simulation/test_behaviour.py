"""Clients that do not do as they should."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fedplan
from fedplan.errors import ConfigError, DataError
from fedplan.plan import RandomStream
from fedplan.simulation import Behaviour, FreeRider, GaussianNoise, LabelFlip, Noise, SignFlip
from fedplan.simulation.chance import Chance
from tests.simulation.cases import data_of, net, same_bits, simulate

START = [p.detach() for p in net().parameters()]


def change(result: fedplan.Simulation) -> Tensor:
    """What a simulation has changed, as one vector."""
    pairs = zip(result.model.params, START, strict=True)
    return torch.cat([(after - before).reshape(-1) for after, before in pairs])


def alone(behaviour: Behaviour | None, client: int = 0, **options: Any) -> Tensor:
    """What one client changes in a round."""
    return change(simulate(clients=[data_of(client)], rounds=1, behaviour=behaviour, **options))


class TestWhatTheyDo:
    def test_a_sign_flip_reports_the_opposite(self) -> None:
        torch.testing.assert_close(alone(SignFlip(share=1.0, scale=3.0)), -3 * alone(None), rtol=0, atol=1e-6)

    def test_a_free_rider_changes_nothing_and_counts_all_the_same(self) -> None:
        assert not alone(FreeRider(share=1.0)).any()
        result = simulate(rounds=1, behaviour=FreeRider(clients=frozenset({0, 1})))
        assert result.history[0].samples == simulate(rounds=1).history[0].samples

    def test_noise_is_added_with_the_deviation_that_was_told(self) -> None:
        noise = torch.cat(
            [alone(GaussianNoise(share=1.0, deviation=0.5), c) - alone(None, c) for c in range(9)]
        )
        assert abs(float(noise.std()) - 0.5) < 0.06
        assert abs(float(noise.mean())) < 0.07

    def test_flipped_labels_are_trained_with(self) -> None:
        x, y = data_of(0)
        honest = change(simulate(clients=[(x, 2 - y)], rounds=1))
        assert torch.equal(alone(LabelFlip(share=1.0, classes=3)), honest)
        arrays = simulate(
            clients=[(x, y.numpy().astype(np.uint8))], rounds=1, behaviour=LabelFlip(share=1.0, classes=3)
        )
        assert torch.equal(change(arrays), honest)
        assert torch.equal(data_of(0)[1], y)

    @pytest.mark.parametrize("engine", ["sequential", "batched"])
    def test_the_model_is_measured_with_the_labels_that_there_are(self, engine: str) -> None:
        flips = LabelFlip(share=1.0, classes=3)
        (lie,) = simulate(evaluates=True, rounds=1, behaviour=flips, engine=engine).history
        (truth,) = simulate(evaluates=True, rounds=1, engine=engine).history
        assert lie.metrics["loss"] == truth.metrics["loss"]
        assert lie.metrics["training_loss"] != truth.metrics["training_loss"]

    def test_several_do_several_things(self) -> None:
        both = [SignFlip(share=1.0), SignFlip(share=1.0, scale=2.0)]
        flipped = change(simulate(clients=[data_of(0)], rounds=1, behaviour=both))
        torch.testing.assert_close(flipped, 2 * alone(None), rtol=0, atol=1e-6)

    def test_a_report_in_a_smaller_format_holds_the_lie(self) -> None:
        server = {"report_formats": ["float16"]}
        lie, truth = alone(SignFlip(share=1.0), server=server), alone(None, server=server)
        torch.testing.assert_close(lie, -truth, rtol=0, atol=1e-4)

    def test_frozen_tensors_stay_out_of_it(self) -> None:
        result = simulate(
            kind="scaffold",
            rounds=2,
            server={"strategy": {"name": "scaffold", "population": 10}},
            behaviour=GaussianNoise(share=1.0, deviation=0.1),
        )
        assert result.history[1].refused == 0

    def test_a_robust_rule_protects_from_them(self) -> None:
        lie = SignFlip(clients=frozenset({2, 5}), scale=100.0)
        honest = change(simulate(rounds=1, server={"strategy": "median", "min_diffs": 10}))
        median = change(simulate(rounds=1, server={"strategy": "median", "min_diffs": 10}, behaviour=lie))
        mean = change(simulate(rounds=1, behaviour=lie))
        assert (median - honest).norm() < 0.5 * honest.norm()
        assert (mean - honest).norm() > 10 * honest.norm()

    def test_ones_own_may_be_written(self) -> None:
        class Silent(Behaviour):
            """Halves what it reports."""

            def diff(self, diff: Sequence[Tensor], noise: Noise) -> list[Tensor]:
                assert noise.cycle == 1
                return [tensor / 2 for tensor in diff]

        torch.testing.assert_close(alone(Silent(share=1.0)), alone(None) / 2, rtol=0, atol=1e-6)


class TestWhoDoesSo:
    def test_is_a_share_that_stays_the_same(self) -> None:
        chance = Chance(RandomStream(3))
        one, other = (
            {client for client in range(2000) if SignFlip(share=0.2).concerns(chance, client, number)}
            for number in (0, 1)
        )
        assert abs(len(one) - 400) < 90
        assert abs(len(one & other) - 80) < 45  # two behaviours are independent

    def test_are_clients_that_are_named(self) -> None:
        chance = Chance(RandomStream(3))
        lie = SignFlip(clients=frozenset({1, 4}))
        assert [client for client in range(10) if lie.concerns(chance, client, 0)] == [1, 4]


class TestIsRefused:
    @pytest.mark.parametrize(
        ("told", "message"),
        [
            ({}, "tell either the share of clients, or which"),
            ({"share": 0.1, "clients": frozenset({1})}, "tell either"),
            ({"share": 0.0}, "the share is 0.0"),
            ({"share": 1.5}, "the share is 1.5"),
        ],
    )
    def test_a_share_that_is_none(self, told: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            SignFlip(**told)

    def test_flipping_labels_that_are_not_there(self) -> None:
        flip = LabelFlip(share=1.0, classes=3)
        loader = fedplan.DataLoader(fedplan.TensorDataset(*data_of(0)), 4)
        with pytest.raises(DataError, match="client 0: labels can be flipped where a client is"):
            simulate(clients=[loader], behaviour=flip)
        x, y = data_of(0)
        with pytest.raises(DataError, match="client 0: labels that can be flipped are integers"):
            simulate(clients=[(x, y.float())], behaviour=flip)


class TestReportFormats:
    @pytest.mark.parametrize(("format", "least", "most"), [("float16", 1.5, 2.2), ("int8", 3.2, 4.1)])
    def test_take_fewer_bytes(self, format: str, least: float, most: float) -> None:
        wide = [(torch.ones(4, 600), torch.zeros(4, dtype=torch.int64))]
        model = torch.nn.Linear(600, 50)
        plan = fedplan.training_plan(model, torch.nn.functional.cross_entropy, example=wide[0])

        def sent(**server: Any) -> int:
            config = {"name": "w", "version": "1", "batch_size": 2, "lr": 0.1}
            result = fedplan.simulate(
                model, {"training_plan": plan}, wide, config, server, rounds=1, progress=False
            )
            return result.history[0].report_bytes

        assert least < sent() / sent(report_formats=[format]) < most

    def test_may_be_chosen(self) -> None:
        server = {"report_formats": ["topk", "int8"]}
        plain = simulate(server=server, report_format="float32", rounds=1)
        assert same_bits(plain.model, simulate(rounds=1).model)
        chosen = simulate(server=server, report_format="int8", rounds=1)
        assert not same_bits(chosen.model, simulate(server=server, rounds=1).model)

    def test_bytes_are_those_that_a_worker_would_have_sent(self) -> None:
        (row,) = simulate(clients=[data_of(0)], rounds=1, evaluates=True).history
        told = fedplan.Summary(
            9.0,
            6,
            {name: fedplan.MetricMean(0.5, 18.0) for name in ("loss", "accuracy")},
            {name: fedplan.MetricMean(0.5, 9.0) for name in ("loss", "accuracy")},
        )
        report = fedplan.wire.with_summary(fedplan.SyftModel(START).serialize(), told)
        assert row.report_bytes == len(report)
