"""The robust rules as their papers say them, in a few lines each, with everything in memory."""

import numpy as np


def median(x):
    s = np.sort(x, axis=0)
    return (s[(len(s) - 1) // 2] + s[len(s) // 2]) / 2


def trimmed_mean(x, trimmed):
    return np.sort(x, axis=0)[trimmed : len(x) - trimmed].mean(0)


def krum_scores(x, f):
    """Of each row the sum of the squared distances to its n − f − 2 nearest others, at least one."""
    scores = []
    for i, row in enumerate(x):
        squares = np.sort([np.sum((row - other) ** 2) for j, other in enumerate(x) if j != i])
        scores.append(squares[: max(1, len(x) - f - 2)].sum())
    return np.array(scores)


def krum(x, f):
    return x[np.argmin(krum_scores(x, f))]


def multi_krum(x, f, m=None):
    best = np.argsort(krum_scores(x, f), kind="stable")
    return x[best[: m or len(x) - f]].mean(0)


def bulyan(x, f):
    left, selected = list(range(len(x))), []
    while len(selected) < len(x) - 2 * f:
        selected.append(left.pop(int(np.argmin(krum_scores(x[left], f)))))
    chosen, beta, made = x[selected], len(x) - 4 * f, []
    for column in chosen.T:
        near = sorted(column, key=lambda value: (abs(value - np.median(column)), value))
        made.append(np.mean(near[:beta]))
    return np.array(made)


def centred_clipping(x, tau=None, iterations=3, centre=None):
    v = np.zeros(x.shape[1]) if centre is None else centre
    for _ in range(iterations):
        norms = np.array([np.linalg.norm(row - v) for row in x])
        radius = np.median(norms) if tau is None else tau
        v = v + np.mean(
            [(row - v) * min(1, radius / max(n, 1e-300)) for row, n in zip(x, norms, strict=True)], 0
        )
    return v


def geometric_median(x, nu=1e-6, iterations=3):
    z = median(x)
    for _ in range(iterations):
        beta = np.array([1 / max(nu, np.linalg.norm(row - z)) for row in x])
        z = beta @ x / beta.sum()
    return z


def buckets(x, size, order):
    return np.array([x[order[at : at + size]].mean(0) for at in range(0, len(x), size)])
