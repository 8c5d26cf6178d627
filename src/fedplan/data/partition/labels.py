"""Splits by labels: parts whose mixtures of labels differ."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedplan.data.integer import as_integer
from fedplan.data.partition.checks import Indices, check_alpha, check_parts, numbered
from fedplan.data.partition.sizes import cuts
from fedplan.errors import DataError

_MOST_DRAWS = 1000
"""Of mixtures, until each part has enough samples."""


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
    label_of = numbered(labels)
    if as_integer(shards_per_part) is None or shards_per_part < 1:
        raise DataError(f"each part needs at least one shard, not {shards_per_part!r}")
    check_parts(label_of.size, parts)
    check_parts(label_of.size, parts * shards_per_part, "shards")
    random = np.random.default_rng(seed)
    shuffled = random.permutation(label_of.size)  # which samples of a label share a shard is chance
    by_label = shuffled[np.argsort(label_of[shuffled], kind="stable")]
    shards = np.array_split(by_label, parts * shards_per_part)
    hands = random.permutation(len(shards)).reshape(parts, shards_per_part)
    return [np.sort(np.concatenate([shards[k] for k in hand])) for hand in hands]


def partition_dirichlet(
    labels: ArrayLike, parts: int, *, alpha: float, balanced: bool = True, least: int = 1, seed: int = 0
) -> list[Indices]:
    """Parts whose mixtures of labels differ, by a degree that `alpha` sets.

    Balanced parts have equal sizes. They follow Hsu, Qi and Brown 2019, "Measuring the Effects of
    Non-Identical Data Distribution for Federated Visual Classification" (arXiv:1909.06335): each part draws
    its mixture from Dir(alpha · p), p being the mixture of the whole data set, then its samples by that
    mixture, without replacement; a label that is used up is left out of the mixture. The last parts get what
    the others left, so at a small alpha they are more mixed than the first.

    The others have unequal sizes too. They follow Li et al. 2022, "Federated Learning on Non-IID Data Silos:
    An Experimental Study" (arXiv:2102.02079), "distribution-based label imbalance": the samples of each label
    lie over the parts by a draw from Dir(alpha). As there, all is drawn again until each part has its `least`
    samples.

    Args:
        labels: label of each sample, shape (samples,).
        parts: number of parts.
        alpha: from 1e-6 (each part a single label, as far as samples allow) to 1e6 (all parts alike);
            0.1 to 1 is usual.
        balanced: whether the parts have equal sizes.
        least: samples that each part has at least; 10 in the second paper.
        seed: decides the split.

    Returns:
        For each part the indices of its samples, ascending; sizes of balanced parts differ by at most 1.

    Raises:
        DataError: there are fewer samples than the parts need, alpha is out of range, or the labels are not a
            list; or a thousand draws left a part that is too small.
    """
    label_of = numbered(labels)
    check_parts(label_of.size, parts, least=least)
    check_alpha(alpha)
    random = np.random.default_rng(seed)
    if balanced:
        return _balanced(label_of, parts, alpha, random)
    for _ in range(_MOST_DRAWS):
        found = _by_label(label_of, parts, alpha, random)
        if min(map(len, found)) >= least:
            return found
    raise DataError(
        f"{_MOST_DRAWS} draws with alpha = {alpha:g} left a part of {parts} with fewer than {least} of "
        f"{label_of.size} samples: take a larger alpha, fewer parts, or balanced ones"
    )


def partition_classes(
    labels: ArrayLike, parts: int, *, classes_per_part: int = 2, seed: int = 0
) -> list[Indices]:
    """Parts that have samples of exactly so many labels each ("pathological" parts).

    Follows Li et al. 2022, "Federated Learning on Non-IID Data Silos: An Experimental Study"
    (arXiv:2102.02079), "quantity-based label imbalance", #C = k: the samples of a label are dealt out evenly
    to the parts that have it. There each part draws its labels by itself, and samples of a label that no part
    has are lost; here each label is in as many parts as any other, or in one more or fewer.

    Args:
        labels: label of each sample, shape (samples,).
        parts: number of parts. All labels are in some part only if there are at least as many places
            (``parts × classes_per_part``) as labels.
        classes_per_part: labels that each part has.
        seed: decides the split.

    Returns:
        For each part the indices of its samples, ascending; sizes differ where labels do.

    Raises:
        DataError: there are more labels than places, fewer labels than a part has, or too few samples of
            one; or the labels are not a list.
    """
    label_of = numbered(labels)
    check_parts(label_of.size, parts)
    sizes = np.bincount(label_of)
    if as_integer(classes_per_part) is None or not 1 <= classes_per_part <= sizes.size:
        raise DataError(
            f"each part can have 1 to {sizes.size} labels, for there are so many, not {classes_per_part!r}"
        )
    if sizes.size > parts * classes_per_part:
        raise DataError(
            f"{parts} parts of {classes_per_part} labels have no room for {sizes.size} labels: samples "
            "would be left out"
        )
    random = np.random.default_rng(seed)
    owners = _dealt(sizes.size, parts, classes_per_part, random)
    hands: list[list[Indices]] = [[] for _ in range(parts)]
    for label, held in enumerate(owners):
        if sizes[label] < len(held):
            raise DataError(
                f"{len(held)} parts are to have samples of label number {label}, and there are "
                f"{sizes[label]}: take fewer parts, or fewer labels for each"
            )
        pile = random.permutation(np.flatnonzero(label_of == label))
        for part, some in zip(held, np.array_split(pile, len(held)), strict=True):
            hands[part].append(some)
    return [np.sort(np.concatenate(hand)) for hand in hands]


def _dealt(labels: int, parts: int, each: int, random: np.random.Generator) -> list[list[int]]:
    """The parts that have each label: every part has `each` different labels, and every label its turn."""
    owners: list[list[int]] = [[] for _ in range(labels)]
    for part in random.permutation(parts):
        turn = random.permutation(labels)  # of labels that are in equally many parts, chance takes one
        rarest = sorted(turn.tolist(), key=lambda label: len(owners[label]))[:each]
        for label in rarest:
            owners[label].append(int(part))
    return owners


def _by_label(label_of: Indices, parts: int, alpha: float, random: np.random.Generator) -> list[Indices]:
    """The samples of each label over the parts, by a draw for each label."""
    hands: list[list[Indices]] = [[] for _ in range(parts)]
    for label in range(int(label_of.max()) + 1):
        pile = random.permutation(np.flatnonzero(label_of == label))
        ends = cuts(random.dirichlet(np.full(parts, alpha)), pile.size)
        for hand, some in zip(hands, np.split(pile, ends), strict=True):
            hand.append(some)
    return [np.sort(np.concatenate(hand)) for hand in hands]


def _balanced(label_of: Indices, parts: int, alpha: float, random: np.random.Generator) -> list[Indices]:
    """Parts of equal sizes, each by a mixture of its own."""
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
