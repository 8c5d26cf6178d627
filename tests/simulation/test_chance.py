"""What a simulation draws."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from fedplan.errors import ConfigError
from fedplan.plan import RandomStream
from fedplan.simulation import client_seed
from fedplan.simulation.chance import Chance, Purpose


def chance(seed: int = 0) -> Chance:
    return Chance(RandomStream(seed))


class TestTheOrderInWhichClientsAsk:
    @pytest.mark.parametrize("population", [1, 2, 63, 64, 65, 1000])
    def test_has_each_client_once(self, population: int) -> None:
        assert sorted(chance().order(1, 0, population)) == list(range(population))

    def test_is_another_one_in_each_cycle_and_turn_and_for_each_seed(self) -> None:
        orders = {
            tuple(chance(seed).order(cycle, turn, 20))
            for seed, cycle, turn in itertools.product((0, 1), (1, 2), (0, 1))
        }
        assert len(orders) == 8

    def test_never_changes(self) -> None:
        assert list(itertools.islice(chance(7).order(3, 0, 1000), 8)) == FIRST
        assert list(itertools.islice(chance(7).order(3, 0, 10**9), 3)) == FIRST_OF_MANY

    def test_begins_with_each_client_equally_often(self) -> None:
        first = Counter(next(chance().order(cycle, 0, 10)) for cycle in range(5000))
        assert all(abs(first[client] - 500) < 110 for client in range(10))  # five standard deviations

    def test_has_all_orders_equally_often(self) -> None:
        orders = Counter(tuple(chance().order(cycle, 0, 4)) for cycle in range(4800))
        assert len(orders) == 24
        assert all(abs(count - 200) < 70 for count in orders.values())


FIRST = [297, 828, 757, 856, 835, 877, 249, 906]
FIRST_OF_MANY = [714540297, 142650036, 954287761]


class TestNumbers:
    def test_of_clients_cycles_and_purposes_differ(self) -> None:
        drawn = {
            chance(seed).uniform(purpose, client=client, cycle=cycle, at=at)
            for seed, purpose, client, cycle, at in itertools.product(
                (0, 1), (Purpose.GONE, Purpose.LIAR), (0, 1), (0, 1), (0, 1)
            )
        }
        assert len(drawn) == 32

    def test_are_uniform_and_normal(self) -> None:
        uniform = np.array([chance().uniform(Purpose.GONE, client=n) for n in range(4000)])
        normal = np.array([chance().normal(Purpose.PACE, client=n) for n in range(4000)])
        assert 0 <= uniform.min() < uniform.max() < 1
        assert abs(uniform.mean() - 0.5) < 0.025
        assert abs(normal.mean()) < 0.08
        assert abs(normal.std() - 1) < 0.06

    def test_torchs_generator_is_the_clients_own_for_a_while(self) -> None:
        torch.manual_seed(1)
        before = torch.get_rng_state()
        drawn = []
        for client, cycle in ((0, 1), (0, 1), (1, 1), (0, 2)):
            with chance().of_torch(client, cycle):
                drawn.append(float(torch.rand(())))
        assert drawn[0] == drawn[1]
        assert len(set(drawn)) == 3
        assert torch.equal(torch.get_rng_state(), before)


class TestTheSeedsOfClients:
    def test_differ_and_never_change(self) -> None:
        seeds = {client_seed(seed, client) for seed in (0, 1) for client in range(100)}
        assert len(seeds) == 200
        assert max(seeds).bit_length() > 120
        assert client_seed(0, 7) == SEED

    def test_need_a_seed(self) -> None:
        with pytest.raises(ConfigError, match="the seed of random numbers is an integer"):
            client_seed(-1, 0)


SEED = 326846396874146054712496288270944988351
