"""The clients: in which forms their data may come, and who takes part in a cycle."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data
from torch import Tensor

import fedplan
from fedplan.data import DataLoader, Dataset, TensorDataset
from fedplan.errors import ConfigError, DataError
from tests.simulation.cases import BATCH, CONFIG, clients, data_of, net, plans_of, same_bits, simulate


class Samples(Dataset):
    """A data set of its own kind, with noise from torch's global generator."""

    def __init__(self, client: int, noise: float = 0.0) -> None:
        self.x, self.y = data_of(client)
        self.noise = noise

    def get_item(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index] + self.noise * torch.randn(6), self.y[index]

    @property
    def length(self) -> int:
        return len(self.y)


class TorchSamples(torch.utils.data.Dataset[Any]):
    """A map-style data set of torch's."""

    def __init__(self, client: int) -> None:
        self.x, self.y = data_of(client)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Any:
        return self.x[index], self.y[index]


FORMS: dict[str, Callable[[int], Any]] = {
    "tensors": data_of,
    "arrays": lambda client: tuple(part.numpy() for part in data_of(client)),
    "bytes for labels": lambda client: (data_of(client)[0], data_of(client)[1].to(torch.uint8)),
    "double precision": lambda client: (data_of(client)[0].double(), data_of(client)[1]),
    "a list": lambda client: list(data_of(client)),
    "lists of inputs": lambda client: ([data_of(client)[0]], [data_of(client)[1]]),
    "a loader in order": lambda client: DataLoader(TensorDataset(*data_of(client)), BATCH, shuffle=False),
    "a torch loader in order": lambda client: torch.utils.data.DataLoader(TorchSamples(client), BATCH),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_the_data_does_not_matter(form: str) -> None:
    given = [FORMS[form](client) for client in range(4)]
    assert same_bits(simulate(clients=given).model, simulate(clients=clients(4)).model)


@pytest.mark.parametrize("kind", [Samples, TorchSamples])
def test_a_data_set_is_shuffled_anew_in_each_epoch_and_cycle(kind: Any) -> None:
    given = [kind(client) for client in range(4)]
    once, again = simulate(clients=given, rounds=3), simulate(clients=given, rounds=3)
    assert same_bits(once.model, again.model)
    assert not same_bits(once.model, simulate(clients=given, rounds=3, seed=1).model)
    assert not same_bits(once.model, simulate(clients=clients(4), rounds=3).model)


async def test_a_loader_goes_on_from_cycle_to_cycle_as_a_workers_does() -> None:
    def loader() -> DataLoader:
        return DataLoader(TensorDataset(*data_of(0)), BATCH, seed=5)

    result = simulate(clients=[loader()], rounds=3)
    model, own = fedplan.SyftModel([p.detach().clone() for p in net().parameters()]), loader()
    for _ in range(3):
        trainer = fedplan.PlanTrainer(
            plan=plans_of()["training_plan"], model=model, data=own, client_config=CONFIG, epochs=2
        )
        await trainer.start()
        model = trainer.current_model
    for ours, theirs in zip(result.model.params, model.params, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_loader_that_was_used_before_begins_anew() -> None:
    used = DataLoader(TensorDataset(*data_of(0)), BATCH, seed=5)
    list(used)
    fresh = DataLoader(TensorDataset(*data_of(0)), BATCH, seed=5)
    assert same_bits(simulate(clients=[used]).model, simulate(clients=[fresh]).model)


@pytest.mark.parametrize(
    "form",
    [
        lambda client: Samples(client, noise=0.5),
        lambda client: torch.utils.data.DataLoader(TorchSamples(client), BATCH, shuffle=True),
        lambda client: torch.utils.data.DataLoader(
            TorchSamples(client), BATCH, shuffle=True, generator=torch.Generator().manual_seed(3)
        ),
    ],
)
def test_what_torchs_generators_decide_is_decided_by_the_seed(form: Callable[[int], Any]) -> None:
    given = [form(client) for client in range(3)]
    torch.manual_seed(1)
    once = simulate(clients=given)
    torch.manual_seed(2)
    torch.rand(3)
    assert same_bits(once.model, simulate(clients=given).model)
    assert not same_bits(once.model, simulate(clients=given, seed=1).model)
    assert same_bits(once.model, simulate(clients=form, population=3).model)


class TestDataThatIsMadeWhenItIsNeeded:
    def test_is_asked_for_once_for_each_client_of_a_cohort(self) -> None:
        asked: list[int] = []

        def data(client: int) -> Any:
            asked.append(client)
            return data_of(client)

        result = simulate(clients=data, population=100_000, cohort=5, rounds=3, evaluates=True)
        assert len(asked) == 15
        assert len(set(asked)) == 15
        assert [row.reports for row in result.history] == [5, 5, 5]

    def test_is_not_asked_for_when_the_client_never_reports(self) -> None:
        asked: list[int] = []

        def data(client: int) -> Any:
            asked.append(client)
            return data_of(client)

        gone = fedplan.Availability(dropout=0.5)
        result = simulate(clients=data, population=50, cohort=10, rounds=4, availability=gone)
        assert len(asked) == sum(row.reports for row in result.history)

    def test_gives_what_a_list_of_it_gives(self) -> None:
        made = simulate(clients=data_of, population=10, cohort=4, rounds=3)
        assert same_bits(made.model, simulate(cohort=4, rounds=3).model)


class TestTheCohort:
    def cohorts(self, **options: Any) -> list[list[int]]:
        found: list[list[int]] = []

        def data(client: int) -> Any:
            found[-1].append(client)
            return data_of(client)

        def next_row(_: object) -> None:
            found.append([])

        found.append([])
        simulate(clients=data, progress=next_row, **options)
        return found[:-1]

    def test_depends_on_the_seed_and_the_round_alone(self) -> None:
        base = self.cohorts(population=30, cohort=4, rounds=5)
        assert base == self.cohorts(population=30, cohort=4, rounds=5, kind="dropout")
        wider = self.cohorts(population=30, cohort=9, rounds=5)
        assert all(wide[:4] == some for some, wide in zip(base, wider, strict=True))
        assert base != self.cohorts(population=30, cohort=4, rounds=5, seed=1)
        assert len({tuple(cohort) for cohort in base}) == 5

    def test_takes_all_clients_equally_often(self) -> None:
        often = Counter(itertools.chain(*self.cohorts(population=10, cohort=3, rounds=100)))
        assert all(10 <= often[client] <= 50 for client in range(10))

    def test_leaves_clients_out_that_must_rest(self) -> None:
        server = {"do_not_reuse_workers_until_cycle": 3}
        found = self.cohorts(population=12, cohort=4, rounds=9, server=server)
        for cycle, cohort in enumerate(found):
            resting = set(itertools.chain(*found[max(0, cycle - 2) : cycle]))
            assert not resting & set(cohort)
            assert len(cohort) == 4

    def test_cannot_be_filled_when_too_many_rest(self) -> None:
        server = {"do_not_reuse_workers_until_cycle": 5, "min_diffs": 4, "max_diffs": 4}
        with pytest.raises(ConfigError, match="cycle 3 has 2 reports and can never close"):
            self.cohorts(population=10, cohort=4, rounds=4, server=server)


class TestIsRefused:
    def test_a_data_set_without_a_batch_size(self) -> None:
        config = {key: value for key, value in CONFIG.items() if key != "batch_size"}
        with pytest.raises(ConfigError, match="client 0: there is no batch size for a data set"):
            simulate(clients=[TorchSamples(0)], client_config=config)

    def test_a_client_without_samples(self) -> None:
        x, y = data_of(0)
        with pytest.raises(DataError, match="client 1: data and target hold no sample"):
            simulate(clients=[(x, y), (x[:0], y[:0])])

    def test_arrays_of_the_wrong_form(self) -> None:
        x, y = data_of(0)
        with pytest.raises(fedplan.FedplanError, match="client 0:"):
            simulate(clients=[(np.zeros((len(x), 5), np.float32), y)])
