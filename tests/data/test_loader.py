"""The loader: batches, epochs, and going on in the middle of one."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.utils.data
from hypothesis import given
from hypothesis import strategies as st

from fedplan.data import DataLoader, Dataset, Sampler, TensorDataset, ToTensor
from fedplan.errors import DataError


class Counting(Dataset):
    """Sample i is i; remembers what was fetched."""

    def __init__(self, length=10):
        self._length = length
        self.fetched = []

    def get_item(self, index):
        self.fetched.append(index)
        return torch.tensor(index)

    @property
    def length(self):
        return self._length


class Ragged(Counting):
    def get_item(self, index):
        return torch.zeros(index)


def lists(batches):
    return [batch.tolist() for batch in batches]


def test_without_shuffling_samples_come_in_order():
    assert lists(DataLoader(Counting(), batch_size=4, shuffle=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_shuffling_is_the_default_and_keeps_every_sample():
    batches = lists(DataLoader(Counting(100), batch_size=32, seed=1))
    samples = [sample for batch in batches for sample in batch]

    assert samples != sorted(samples)
    assert sorted(samples) == list(range(100))


def test_a_batch_has_one_sample_by_default():
    assert lists(DataLoader(Counting(3), shuffle=False)) == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("size", "batches"), [(4, [[0, 1, 2, 3], [4, 5, 6, 7]]), (5, [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])]
)
def test_a_last_batch_that_is_not_full_can_be_left_out(size, batches):
    assert lists(DataLoader(Counting(), size, shuffle=False, drop_last=True)) == batches


@pytest.mark.parametrize(("drop_last", "length"), [(False, 3), (True, 2)])
def test_the_length_is_the_number_of_batches(drop_last, length):
    loader = DataLoader(Counting(), 4, drop_last=drop_last)

    assert loader.length == len(loader) == len(list(loader)) == length


def test_a_second_epoch_has_all_samples_in_another_order():
    loader = DataLoader(Counting(50), 50, seed=1)

    (first,), (second,) = lists(loader), lists(loader)

    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_the_seed_decides_all_epochs():
    one, same, other = (DataLoader(Counting(50), 8, seed=seed) for seed in (1, 1, 2))

    assert [lists(one), lists(one)] == [lists(same), lists(same)]
    assert lists(one) != lists(other)


def test_without_a_seed_torchs_own_decides():
    def first_epoch():
        torch.manual_seed(7)
        return lists(DataLoader(Counting(50), 8))

    assert first_epoch() == first_epoch()


def test_loading_does_not_touch_the_global_generators():
    loader = DataLoader(Counting(), 4, seed=1)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()

    list(loader)
    list(loader.batches(1))

    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


@given(
    length=st.integers(1, 60),
    size=st.integers(1, 17),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**60),
    epochs=st.integers(0, 3),
    data=st.data(),
)
def test_a_restored_loader_goes_on_with_the_same_batches(length, size, shuffle, seed, epochs, data):
    loader = DataLoader(Counting(length), size, shuffle, seed=seed)
    for _ in range(epochs):
        list(loader)
    start = data.draw(st.integers(0, loader.length))
    running = iter(loader)
    for _ in range(start):
        next(running)
    state = json.loads(json.dumps(loader.state()))

    restored = DataLoader(Counting(length), size, shuffle)
    restored.restore(state)

    assert lists(restored.batches(start)) == lists(running)
    assert lists(restored) == lists(loader)


def test_skipped_samples_are_not_fetched():
    loader = DataLoader(Counting(), 4, shuffle=False)

    assert lists(loader.batches(1)) == [[4, 5, 6, 7], [8, 9]]
    assert loader.dataset.fetched == [4, 5, 6, 7, 8, 9]


def test_samples_are_fetched_when_their_batch_is_asked_for():
    loader = DataLoader(Counting(), 4, shuffle=False)

    next(iter(loader))

    assert loader.dataset.fetched == [0, 1, 2, 3]


def test_batches_repeats_the_epoch_and_iter_begins_the_next():
    loader = DataLoader(Counting(30), 7, seed=1)

    epochs = [lists(loader), lists(loader.batches()), lists(loader), lists(loader.batches())]

    assert epochs[0] == epochs[1] != epochs[2] == epochs[3]
    assert loader.state() == {"seed": 1, "epoch": 1}


def test_batches_of_a_new_loader_are_its_first_epoch():
    one, same = DataLoader(Counting(30), 7, seed=1), DataLoader(Counting(30), 7, seed=1)

    assert lists(one.batches()) == lists(same)
    assert lists(one) == lists(same)


def test_a_state_taken_before_the_first_epoch_restores_to_before_it():
    new, restored = DataLoader(Counting(30), 7, seed=1), DataLoader(Counting(30), 7)

    restored.restore(new.state())

    assert lists(restored) == lists(new)
    assert restored.epoch == 0


def test_an_iteration_keeps_its_epoch_when_the_next_one_begins():
    loader, same = DataLoader(Counting(30), 7, seed=1), DataLoader(Counting(30), 7, seed=1)
    first, second = iter(loader), iter(loader)
    alternating = [batch.tolist() for pair in zip(first, second, strict=True) for batch in pair]

    assert alternating[::2] == lists(same)
    assert alternating[1::2] == lists(same)


@pytest.mark.parametrize("start", [-1, 4])
def test_a_start_outside_the_epoch_is_an_error(start):
    with pytest.raises(DataError, match=f"no batch {start} in an epoch of 3 batches"):
        DataLoader(Counting(), 4).batches(start)


@pytest.mark.parametrize(
    "state",
    [{}, {"seed": 1}, {"seed": "1", "epoch": 0}, {"seed": 1, "epoch": -2}, {"seed": True, "epoch": 0}],
)
def test_a_state_that_is_none_is_refused(state):
    with pytest.raises(DataError, match="must be an integer from"):
        DataLoader(Counting()).restore(state)


@pytest.mark.parametrize("seed", [-1, 1.5, "x"])
def test_a_seed_that_is_no_natural_number_is_refused(seed):
    with pytest.raises(DataError, match="seed must be an integer from 0"):
        DataLoader(Counting(), seed=seed)


def test_samples_of_two_items_come_as_a_list_of_two_tensors():
    images, labels = next(iter(DataLoader(TensorDataset(torch.rand(6, 2, 2), torch.arange(6)), 4)))

    assert images.shape == (4, 2, 2)
    assert labels.shape == (4,)


def test_whole_batches_equal_batches_of_samples():
    images, labels = torch.rand(30, 3), torch.arange(30)
    whole = DataLoader(TensorDataset(images, labels), 8, seed=1)
    single = DataLoader(TensorDataset(images, labels, transform=ToTensor()), 8, seed=1)
    listed = DataLoader([(images[i], labels[i]) for i in range(30)], 8, seed=1)
    subset = DataLoader(torch.utils.data.Subset(TensorDataset(images, labels), range(30)), 8, seed=1)
    of_torch = DataLoader(torch.utils.data.TensorDataset(images, labels), 8, seed=1)

    for batches in zip(whole, single, listed, subset, of_torch, strict=True):
        for batch in batches[1:]:
            assert all(torch.equal(a, b) for a, b in zip(batches[0], batch, strict=True))


def test_a_subclass_of_torchs_tensor_data_set_gives_its_own_samples():
    class Doubled(torch.utils.data.TensorDataset):
        def __getitem__(self, index):
            return tuple(2 * value for value in super().__getitem__(index))

    loader = DataLoader(Doubled(torch.arange(4)), 2, shuffle=False)

    assert [batch[0].tolist() for batch in loader] == [[0, 2], [4, 6]]


@pytest.mark.parametrize("name", ["get_item", "__getitem__"])
@pytest.mark.parametrize("transform", [None, ToTensor()])
def test_a_subclass_of_a_tensor_data_set_gives_its_own_samples(name, transform):
    def doubled(self, index):
        return tuple(2 * value for value in getattr(super(kind, self), name)(index))

    kind = type("Doubled", (TensorDataset,), {name: doubled})
    loader = DataLoader(kind(torch.arange(4), transform=transform), 2, shuffle=False)

    assert [batch[0].tolist() for batch in loader] == [[0, 2], [4, 6]]


@pytest.mark.parametrize(("collate", "expected"), [(None, [0, 10]), (sum, 10)])
def test_a_data_set_that_fetches_many_samples_at_once_is_asked_once_for_a_batch(collate, expected):
    class Many(Counting):
        asked = 0

        def __getitems__(self, indices):
            self.asked += 1
            return [10 * index for index in indices]

    data = Many()
    first = next(iter(DataLoader(data, 2, shuffle=False, collate=collate)))

    assert first.tolist() == expected if collate is None else first == expected
    assert data.asked == 1


def test_a_collate_of_ones_own_makes_the_batches():
    loader = DataLoader(TensorDataset(torch.arange(4)), 2, shuffle=False, collate=len)

    assert list(loader) == [2, 2]


def test_an_error_names_the_sample_by_its_number_in_the_data_set():
    with pytest.raises(DataError, match=r"sample 2 is .* \[2\] .*, sample 3 is .* \[3\]"):
        list(DataLoader(Ragged(4), 2, shuffle=False).batches(1))


class Every(Sampler):
    """Each `step`-th sample, from another beginning in each epoch."""

    def __init__(self, dataset, step):
        super().__init__(dataset)
        self.step = step

    def order(self, seed, epoch):
        return np.arange(epoch % self.step, len(self.dataset), self.step)

    @property
    def length(self):
        return len(self.dataset) // self.step


def test_a_sampler_of_ones_own_decides_the_order():
    loader = DataLoader(Counting(), 2, sampler=Every(Counting(), 2))

    assert loader.length == 3
    assert lists(loader) == [[0, 2], [4, 6], [8]]
    assert lists(loader) == [[1, 3], [5, 7], [9]]
    assert lists(loader.batches(2)) == [[9]]


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield 1


@pytest.mark.parametrize("dataset", [Stream(), iter([1, 2]), 5, None])
def test_a_data_set_without_numbered_samples_is_refused(dataset):
    with pytest.raises(DataError, match=r"cannot be loaded: .*Subclass fedplan\.data\.Dataset"):
        DataLoader(dataset)


@pytest.mark.parametrize(("length", "drop_last"), [(0, False), (3, True)])
def test_a_loader_that_would_give_no_batch_is_refused(length, drop_last):
    with pytest.raises(DataError, match=f"{length} samples make no batch of 4"):
        DataLoader(Counting(length), 4, drop_last=drop_last)


@pytest.mark.parametrize("size", [0, 1.5])
def test_a_wrong_batch_size_is_refused_at_once(size):
    with pytest.raises(DataError, match="batch_size"):
        DataLoader(Counting(), size)


def test_workers_fetch_the_same_batches():
    alone, helped = (DataLoader(Counting(), 4, seed=1, num_workers=n) for n in (0, 2))

    assert lists(alone) == lists(helped)
    assert lists(alone.batches(2)) == lists(helped.batches(2))


def test_an_error_in_a_worker_is_still_a_data_error():
    with pytest.raises(DataError, match="sample 1 is"):
        list(DataLoader(Ragged(4), 2, shuffle=False, num_workers=1))


def test_another_process_goes_on_with_the_same_batches():
    loader = DataLoader(list(range(40)), 7, seed=5)
    list(loader)
    rest = lists(iter(loader))[3:]
    program = (
        "import json, sys; from fedplan.data import DataLoader\n"
        "loader = DataLoader(list(range(40)), 7); loader.restore(json.loads(sys.argv[1]))\n"
        "print(json.dumps([batch.tolist() for batch in loader.batches(3)]))"
    )

    printed = subprocess.run(
        [sys.executable, "-c", program, json.dumps(loader.state())],
        check=True,
        capture_output=True,
        text=True,
    )

    assert json.loads(printed.stdout) == rest
