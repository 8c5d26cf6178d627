"""Splits by labels: how much the mixtures of the parts differ."""

import numpy as np
import pytest
import torch

from fedplan.data import partition_classes, partition_dirichlet, partition_shards
from fedplan.errors import DataError


@pytest.mark.parametrize("kind", [list, torch.tensor, lambda v: np.array(v).astype(str)])
def test_labels_come_in_any_form(kind):
    labels = [0, 1] * 10

    parts = partition_shards(kind(labels), 2, shards_per_part=1)

    assert [{labels[i] for i in part} for part in parts] in ([{0}, {1}], [{1}, {0}])


def test_two_shards_hold_few_labels():
    labels = np.arange(1000) % 10

    parts = partition_shards(labels, 10, shards_per_part=2)

    assert max(len(np.unique(labels[part])) for part in parts) <= 4
    assert np.mean([len(np.unique(labels[part])) for part in parts]) <= 2


def _spread(alpha):
    """Mean share of a part's most frequent label."""
    labels = np.arange(5000) % 10
    parts = partition_dirichlet(labels, 20, alpha=alpha, seed=1)
    return np.mean([np.bincount(labels[part]).max() / part.size for part in parts])


def test_alpha_sets_how_much_the_mixtures_differ():
    assert _spread(1e6) < 0.2
    assert _spread(1e6) < _spread(10) < _spread(1) < _spread(0.1)


def test_a_tiny_alpha_gives_a_single_label_while_samples_last():
    labels = np.arange(1000) % 10

    first = partition_dirichlet(labels, 20, alpha=1e-6)[0]

    assert np.unique(labels[first]).size == 1


def test_a_large_alpha_follows_an_unbalanced_data_set():
    labels = np.array([0] * 900 + [1] * 100)

    parts = partition_dirichlet(labels, 5, alpha=1e6)

    shares = [np.mean(labels[part]) for part in parts]
    assert max(abs(share - 0.1) for share in shares) < 0.06


def test_fewer_samples_than_shards_is_an_error():
    with pytest.raises(DataError, match="7 samples cannot fill 8 shards"):
        partition_shards(range(7), 4, shards_per_part=2)


def test_no_shards_is_an_error():
    with pytest.raises(DataError, match="at least one shard"):
        partition_shards([0, 1], 1, shards_per_part=0)


@pytest.mark.parametrize("alpha", [0, -1, 1e7, float("nan"), float("inf")])
def test_an_alpha_out_of_range_is_an_error(alpha):
    with pytest.raises(DataError, match="alpha must be from"):
        partition_dirichlet([0, 1, 0], 2, alpha=alpha)


@pytest.mark.parametrize("labels", [np.zeros((3, 2)), 5])
def test_labels_that_are_not_a_list_are_an_error(labels):
    with pytest.raises(DataError, match="labels must be a list"):
        partition_dirichlet(labels, 2, alpha=1.0)


class TestUnbalancedParts:
    LABELS = np.arange(5000) % 10

    def split(self, alpha, **options):
        return partition_dirichlet(self.LABELS, 20, alpha=alpha, balanced=False, **options)

    def test_differ_in_their_sizes_too(self):
        sizes = [len(part) for part in self.split(0.5)]
        assert max(sizes) > 2 * min(sizes)

    def test_are_alike_with_a_large_alpha(self):
        for part in self.split(1e6):
            assert abs(len(part) - 250) <= 10
            assert np.ptp(np.bincount(self.LABELS[part])) <= 2

    def test_have_each_label_by_a_draw_of_its_own(self):
        """The share of a label in a part varies as Dir(alpha) says: (1/n)(1 − 1/n) / (n alpha + 1)."""
        shares = [
            np.bincount(self.LABELS[part], minlength=10) / 500
            for seed in range(60)
            for part in self.split(0.5, seed=seed)
        ]
        expected = (1 / 20) * (1 - 1 / 20) / (20 * 0.5 + 1)
        assert np.var(shares) == pytest.approx(expected, rel=0.15)

    def test_have_at_least_so_many_samples(self):
        assert min(map(len, self.split(0.3, least=30))) >= 30

    def test_that_do_not_come_about_are_an_error(self):
        with pytest.raises(DataError, match="1000 draws with alpha = 1e-06 left a part of 20"):
            self.split(1e-6)


class TestPartsOfFewClasses:
    LABELS = np.arange(1000) % 10

    def test_share_the_samples_of_a_label_evenly(self):
        parts = partition_classes(self.LABELS, 20, classes_per_part=3)
        held = np.stack([np.bincount(self.LABELS[part], minlength=10) for part in parts])
        assert np.all(np.count_nonzero(held, axis=1) == 3)
        assert set(np.count_nonzero(held, axis=0)) == {6}  # 20 × 3 places over 10 labels
        assert all(np.ptp(column[column > 0]) <= 1 for column in held.T)

    def test_have_labels_by_chance(self):
        first = [
            tuple(np.unique(self.LABELS[partition_classes(self.LABELS, 20, seed=seed)[0]]))
            for seed in range(40)
        ]
        assert len(set(first)) > 20

    def test_without_room_for_all_labels_are_an_error(self):
        with pytest.raises(DataError, match="4 parts of 2 labels have no room for 10 labels"):
            partition_classes(self.LABELS, 4)

    def test_of_more_labels_than_there_are_are_an_error(self):
        with pytest.raises(DataError, match="1 to 2 labels, for there are so many, not 3"):
            partition_classes([0, 1, 0, 1], 2, classes_per_part=3)

    def test_with_too_few_samples_of_a_label_are_an_error(self):
        with pytest.raises(DataError, match="3 parts are to have samples of label number 1, and there are 1"):
            partition_classes([0, 0, 0, 1, 0], 3)
