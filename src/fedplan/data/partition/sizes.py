"""Splits that do not look at the samples: equal sizes, or unequal ones."""

import numpy as np

from fedplan.data.partition.checks import Indices, check_alpha, check_parts


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
    check_parts(samples, parts)
    order = np.random.default_rng(seed).permutation(samples)
    return [np.sort(part) for part in np.array_split(order, parts)]


def partition_quantity(
    samples: int, parts: int, *, alpha: float, least: int = 1, seed: int = 0
) -> list[Indices]:
    """Parts that are alike but for their sizes, which differ by a degree that `alpha` sets.

    Follows Li et al. 2022, "Federated Learning on Non-IID Data Silos: An Experimental Study"
    (arXiv:2102.02079), section 4.3, "quantity skew": the shares of the parts are drawn from a Dirichlet
    distribution. There a draw with a part that is too small is thrown away; here each part gets its `least`
    samples first, and the shares are of the others, so that any `alpha` comes to an end.

    Args:
        samples: number of samples.
        parts: number of parts.
        alpha: from 1e-6 (nearly all samples in one part) to 1e6 (all parts of one size); 0.5 is usual.
        least: samples that each part has at least.
        seed: decides the split.

    Returns:
        For each part the indices of its samples, ascending.

    Raises:
        DataError: there are fewer samples than the parts need, or alpha is out of range.
    """
    check_parts(samples, parts, least=least)
    check_alpha(alpha)
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(parts, alpha))
    order = random.permutation(samples)
    ends = least * np.arange(1, parts) + cuts(shares, samples - least * parts)
    return [np.sort(part) for part in np.split(order, ends)]


def cuts(shares: np.ndarray, samples: int) -> Indices:
    """Where samples in a row are cut, so that each part gets its share: (parts − 1,), ascending.

    Args:
        shares: of the parts; they add up to 1.
        samples: how many there are.
    """
    return np.floor(np.cumsum(shares)[:-1] * samples + 0.5).astype(np.int64).clip(0, samples)
