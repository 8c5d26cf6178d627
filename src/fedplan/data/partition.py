"""One data set, split over many workers as federations find it.

Each function returns one array of indices for each part. Every sample is in exactly one part and no part is
empty. The same arguments and seed give the same split.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedplan.data.integer import as_integer
from fedplan.errors import DataError

Indices = NDArray[np.int64]

_ALPHAS = (1e-6, 1e6)
"""Beyond these a Dirichlet draw is a single label, or the prior, to the last digit of a double."""


def partition_iid(samples: int, parts: int, *, seed: int = 0) -> list[Indices]:
    """Parts that are alike: samples are dealt out at random.

    Args:
        samples: number of samples.
        parts: number of parts.
        seed: decides the split.

    Returns:
        For each part the indices of its samples, ascending; sizes differ by at most 1.

    Raises:
        DataError: there are fewer samples than parts.
    """
    _check(samples, parts, "parts")
    order = np.random.default_rng(seed).permutation(samples)
    return [np.sort(part) for part in np.array_split(order, parts)]


def partition_shards(
    labels: ArrayLike, parts: int, *, shards_per_part: int = 2, seed: int = 0
) -> list[Indices]:
    """Parts with few labels each: samples are sorted by label and dealt out in whole runs.

    Follows McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data"
    (arXiv:1602.05629), section 3, where 100 parts of 2 shards made MNIST "pathologically non-IID".

    Args:
        labels: label of each sample, shape (samples,).
        parts: number of parts.
        shards_per_part: runs of samples that each part gets; fewer mean fewer labels.
        seed: decides the split.

    Returns:
        For each part the indices of its samples, ascending; sizes differ by at most `shards_per_part`.

    Raises:
        DataError: there are fewer samples than shards, or the labels are not a list.
    """
    label_of = _label_numbers(labels)
    if as_integer(shards_per_part) is None or shards_per_part < 1:
        raise DataError(f"each part needs at least one shard, not {shards_per_part!r}")
    _check(label_of.size, parts, "parts")
    _check(label_of.size, parts * shards_per_part, "shards")
    random = np.random.default_rng(seed)
    shuffled = random.permutation(label_of.size)  # which samples of a label share a shard is chance
    by_label = shuffled[np.argsort(label_of[shuffled], kind="stable")]
    shards = np.array_split(by_label, parts * shards_per_part)
    hands = random.permutation(len(shards)).reshape(parts, shards_per_part)
    return [np.sort(np.concatenate([shards[k] for k in hand])) for hand in hands]


def partition_dirichlet(labels: ArrayLike, parts: int, *, alpha: float, seed: int = 0) -> list[Indices]:
    """Parts of equal size whose mixtures of labels differ, by a degree that `alpha` sets.

    Follows Hsu, Qi and Brown 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated
    Visual Classification" (arXiv:1909.06335): each part draws its mixture from Dir(alpha · p), p being the
    mixture of the whole data set, then its samples by that mixture, without replacement; a label that is
    used up is left out of the mixture. The last parts get what the others left, so at a small alpha they
    are more mixed than the first.

    Args:
        labels: label of each sample, shape (samples,).
        parts: number of parts.
        alpha: from 1e-6 (each part a single label, as far as samples allow) to 1e6 (all parts alike);
            0.1 to 1 is usual.
        seed: decides the split.

    Returns:
        For each part the indices of its samples, ascending; sizes differ by at most 1.

    Raises:
        DataError: there are fewer samples than parts, alpha is out of range, or the labels are not a list.
    """
    label_of = _label_numbers(labels)
    _check(label_of.size, parts, "parts")
    if not _ALPHAS[0] <= alpha <= _ALPHAS[1]:
        raise DataError(f"alpha must be from {_ALPHAS[0]:g} to {_ALPHAS[1]:g}, not {alpha}")
    random = np.random.default_rng(seed)
    left = np.bincount(label_of)  # samples of each label that no part has
    prior = left / label_of.size
    piles = [random.permutation(np.flatnonzero(label_of == label)) for label in range(left.size)]
    result = []
    for part in range(parts):
        size = label_of.size // parts + (part < label_of.size % parts)
        taken = _draw(random, random.dirichlet(alpha * prior), left, size)
        left = left - taken
        hand = [pile[rest : rest + count] for pile, rest, count in zip(piles, left, taken, strict=True)]
        result.append(np.sort(np.concatenate(hand)))
    return result


def _draw(random: np.random.Generator, mixture: NDArray[Any], left: Indices, size: int) -> Indices:
    """How many samples of each label a part of `size` samples takes, at most as many as are `left`."""
    taken = np.zeros_like(left)
    while (missing := size - int(taken.sum())) > 0:
        chances = np.where(taken < left, mixture, 0.0)
        if chances.sum() < 1e-12:  # nothing is left of the labels that this part wants
            chances = (left - taken).astype(float)
        drawn = random.multinomial(missing, chances / chances.sum())
        taken += np.minimum(drawn, left - taken)
    return taken


def _label_numbers(labels: ArrayLike) -> Indices:
    """The labels as 0, 1, 2 … in their sorted order."""
    array = np.asarray(labels)
    if array.ndim != 1:
        raise DataError(
            f"labels must be a list, one for each sample; these have the shape {list(array.shape)}"
        )
    return np.unique(array, return_inverse=True)[1]


def _check(samples: int, parts: int, what: str) -> None:
    if as_integer(samples) is None:
        raise DataError(f"the number of samples must be an integer, not {samples!r}")
    if as_integer(parts) is None or parts < 1:
        raise DataError(f"a data set can be split into 1 or more {what}, not {parts!r}")
    if samples < parts:
        raise DataError(f"{samples} samples cannot fill {parts} {what}: each needs at least one")
