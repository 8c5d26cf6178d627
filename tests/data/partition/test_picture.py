"""The picture of a split."""

import sys

import numpy as np
import pytest

from fedplan.data import partition_iid, plot_partition
from fedplan.errors import DataError


class TestWithMatplotlib:
    @pytest.fixture(autouse=True)
    def no_window(self):
        pytest.importorskip("matplotlib").use("Agg")

    def test_it_has_a_bar_for_each_label_in_each_part(self):
        labels = np.array([0, 0, 1, 2, 2, 2])
        axes = plot_partition([np.array([0, 2]), np.array([1, 3, 4, 5])], labels)
        heights = np.array([[bar.get_height() for bar in bars] for bars in axes.containers])
        assert heights.tolist() == [[1, 1], [1, 0], [0, 3]]  # (labels, parts)
        bottoms = np.array([[bar.get_y() for bar in bars] for bars in axes.containers])
        assert bottoms.tolist() == [[0, 0], [1, 1], [2, 1]]
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0", "1", "2"]

    def test_many_labels_have_no_legend(self):
        assert plot_partition(partition_iid(100, 5), np.arange(100)).get_legend() is None

    def test_a_sample_without_a_label_is_an_error(self):
        with pytest.raises(DataError, match="a sample beyond the 3 that have labels"):
            plot_partition([np.array([0, 3])], [0, 1, 2])

    def test_no_part_is_an_error(self):
        with pytest.raises(DataError, match="no part to draw"):
            plot_partition([], [0, 1])


def test_without_matplotlib_it_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(DataError, match="pip install matplotlib"):
        plot_partition([np.array([0])], [0])
