"""Integer noise from a stream of AES: the discrete Gaussian of Canonne, Kamath and Steinke (2020).

Floating-point Gaussians are not differentially private as they stand: which numbers can come out at all tells
of what the noise was added to (Mironov 2012). Here the noise is an integer, and so is what it is added to.

The sampler is the rejection sampler of the paper, with chances of 64 bits in place of exact fractions. They
are computed as float64: each outcome's probability is right to a factor of 1 ± 2⁻⁴⁵, which adds less than
10⁻⁷ to the ε of a million values. That they are compared as 64 bits is wrong by less than 2⁻⁶¹ a value in
all, which adds (1 + e^ε) · 5 · 10⁻¹³ to the δ of a million values.
"""

import math

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

KEY_BYTES = 32

_BLOCK = 16

_AT_ONCE = 1 << 18
"""Candidates that are drawn at a time."""

_WORD = 2.0**64

_DECAYS: NDArray[np.uint64] = np.array([int(math.exp(-k) * _WORD) for k in range(1, 45)], np.uint64)[::-1]
"""exp(−1) … exp(−44) of 2⁶⁴, the least first."""

Int64s = NDArray[np.int64]


class NoiseStream:
    """Random words: AES-256 in counter mode under one key.

    Args:
        key: 32 bytes, for one checkpoint. From the operating system where the noise protects anybody.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key of noise has {KEY_BYTES} bytes, and this one has {len(key)}")
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(_BLOCK))).encryptor()

    def words(self, count: int) -> NDArray[np.uint64]:
        """The next words of 64 bits: (count,)."""
        return np.frombuffer(self._encryptor.update(bytes(8 * count)), "<u8")


def discrete_gaussian(stream: NoiseStream, sigma: float, count: int) -> Int64s:
    """Integers with probabilities in proportion to exp(−x² / 2σ²): (count,).

    Args:
        stream: where the chance comes from.
        sigma: the standard deviation, nearly, from about 0.5 on; up to 2⁴⁰.
        count: how many.
    """
    found = np.empty(count, np.int64)
    done = 0
    while done < count:
        wanted = min(2 * (count - done) + 64, _AT_ONCE)
        accepted = _candidates(stream, sigma, wanted)[: count - done]
        found[done : done + len(accepted)] = accepted
        done += len(accepted)
    return found


def _candidates(stream: NoiseStream, sigma: float, count: int) -> Int64s:
    """Those of `count` integers from a discrete Laplace distribution of scale t that a lot leaves over."""
    t = 1 << max(math.ceil(math.log2(sigma)), 0)
    low = (stream.words(count) & np.uint64(t - 1)).astype(np.int64)
    kept = _happens(stream, np.exp(-low / t))
    high = len(_DECAYS) - np.searchsorted(_DECAYS, stream.words(count), side="right")
    magnitude = low + t * high.astype(np.int64)
    negative = (stream.words(count) & np.uint64(1)).astype(bool)
    kept &= ~(negative & (magnitude == 0))  # else zero would come twice as often
    away = (magnitude - sigma * (sigma / t)) / sigma
    kept &= _happens(stream, np.exp(-0.5 * away * away))
    return np.where(negative, -magnitude, magnitude)[kept]


def _happens(stream: NoiseStream, chances: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Draws a lot for each of some chances in [0, 1]."""
    certain = chances >= 1.0
    bounds = (np.where(certain, 0.0, chances) * _WORD).astype(np.uint64)
    return certain | (stream.words(len(chances)) < bounds)
