"""A picture of a split."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fedplan.data.partition.checks import Indices, numbered
from fedplan.errors import DataError

_MOST_NAMES = 20
"""Labels that are named in the legend."""


def plot_partition(parts: Sequence[Indices], labels: ArrayLike) -> Any:
    """Draws how many samples of each label the parts have: a bar for each part, a colour for each label.

    Args:
        parts: indices of the samples of each part, as the functions of this module return them.
        labels: label of each sample, shape (samples,).

    Returns:
        The `matplotlib` Axes.

    Raises:
        DataError: matplotlib is not installed, there is no part, the labels are not a list, or a part has a
            sample that has no label.
    """
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise DataError("a picture needs matplotlib: pip install matplotlib") from None
    label_of = numbered(labels)
    if not len(parts):
        raise DataError("there is no part to draw")
    if max(int(part.max(initial=-1)) for part in parts) >= label_of.size:
        raise DataError(f"a part has a sample beyond the {label_of.size} that have labels")
    names = np.unique(np.asarray(labels))
    counts = np.stack(
        [np.bincount(label_of[part], minlength=names.size) for part in parts]
    )  # (parts, labels)
    if names.size <= _MOST_NAMES:  # colours that can be told apart
        colours = pyplot.get_cmap("tab10" if names.size <= 10 else "tab20")(range(names.size))
    else:
        colours = pyplot.get_cmap("viridis")(np.linspace(0, 1, names.size))
    axes = pyplot.subplots(layout="constrained")[1]
    below = np.zeros(len(parts), np.int64)
    for label, colour in enumerate(colours):
        axes.bar(range(len(parts)), counts[:, label], 1.0, below, color=colour, label=str(names[label]))
        below += counts[:, label]
    axes.set_xlabel("part")
    axes.set_ylabel("samples")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlim(-0.5, len(parts) - 0.5)
    if names.size <= _MOST_NAMES:
        axes.legend(title="label", bbox_to_anchor=(1, 1), loc="upper left")
    return axes
