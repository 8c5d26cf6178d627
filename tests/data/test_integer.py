import numpy as np
import pytest
import torch

from fedplan.data import DataLoader, TensorDataset, partition_dirichlet, partition_iid, partition_shards
from fedplan.data.integer import as_integer
from fedplan.errors import DataError

INTEGERS = [3, np.int8(3), np.uint64(3), np.array(3), torch.tensor(3), torch.tensor([3])]
OTHERS = [
    *(True, np.True_, np.array(True), torch.tensor(True), 3.0, np.float32(3), torch.tensor(3.0), "3", None),
    *([3], np.array([3, 4]), torch.tensor([3, 4]), torch.zeros((), dtype=torch.int64, device="meta"), 1j),
]


@pytest.mark.parametrize("value", INTEGERS, ids=repr)
def test_an_integer_of_any_library_is_one(value):
    assert as_integer(value) == 3
    assert type(as_integer(value)) is int


@pytest.mark.parametrize("value", OTHERS, ids=repr)
def test_nothing_else_is_one(value):
    assert as_integer(value) is None


def test_a_loader_takes_them():
    rows = TensorDataset(torch.arange(10))
    plain = DataLoader(rows, batch_size=4, seed=1)
    loader = DataLoader(rows, batch_size=np.int64(4), seed=np.uint8(1), num_workers=np.int64(0))
    assert [batch[0].tolist() for batch in loader] == [batch[0].tolist() for batch in plain]
    assert [type(n) for n in (loader.batch_size, loader.state()["seed"], loader.num_workers)] == [int] * 3


@pytest.mark.parametrize("value", [True, 2.0, "2", np.True_, -1])
def test_a_loader_refuses_what_is_none(value):
    for name in ("batch_size", "seed", "num_workers"):
        with pytest.raises(DataError, match=f"{name} must be an integer"):
            DataLoader(TensorDataset(torch.arange(10)), **{name: value})


def test_a_split_takes_them():
    labels = np.arange(12) % 3
    for one, other in (
        (partition_iid(12, 3), partition_iid(np.int64(12), np.int64(3))),
        (partition_shards(labels, 3), partition_shards(labels, np.int64(3), shards_per_part=np.int64(2))),
        (partition_dirichlet(labels, 3, alpha=1), partition_dirichlet(labels, np.int64(3), alpha=1)),
    ):
        assert [part.tolist() for part in one] == [part.tolist() for part in other]


@pytest.mark.parametrize("value", [True, 2.0, "2", None])
def test_a_split_refuses_what_is_none(value):
    labels = np.arange(12) % 3
    with pytest.raises(DataError, match="1 or more parts"):
        partition_iid(12, value)
    with pytest.raises(DataError, match="number of samples must be an integer"):
        partition_iid(value, 3)
    with pytest.raises(DataError, match="1 or more parts"):
        partition_dirichlet(labels, value, alpha=1)
    with pytest.raises(DataError, match="at least one shard"):
        partition_shards(labels, 3, shards_per_part=value)
