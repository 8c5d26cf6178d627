"""The numbers of a Plan's random inputs: a function of seed, cycle, step and input, and of nothing else.

`docs/randomness.md` defines them in terms of bits, for implementations in other languages. They come from
Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), of which NumPy has a fast
implementation. Only its raw words are used: NumPy keeps those stable across versions, but not what
`numpy.random.Generator` makes of them.

These numbers are for training: dropout, noise, augmentation. They do not protect secrets, so they are not for
differential privacy or secure aggregation.
"""

import contextlib
import dataclasses
import math
import operator
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedplan.errors import ConfigError, PlanInputError

UNIFORM, NORMAL = "uniform", "normal"
"""Distributions: from 0 to 1 without 1; mean 0 and variance 1."""

_SEED_BITS = 128
_WORD = 1 << 64

_CHUNK = 32768
"""How many numbers are made at a time, so that they stay in the processor's cache meanwhile. It is even."""

# Arrays of no dimensions: NumPy takes longer to make one from a Python number than to compute 500 numbers.
_EIGHT = np.array(8, np.uint32)
_ELEVEN = np.array(11, np.uint64)
_STEP32 = np.array(2.0**-24, np.float32)
_STEP64 = np.array(2.0**-53)

_LOW_FIRST, _HALF, _SIGNED_HALF = np.dtype("<u8"), np.dtype("<u4"), np.dtype("<i4")

_Array = npt.NDArray[Any]
_Fill = Callable[[np.random.Philox, _Array], None]


@dataclasses.dataclass(frozen=True, slots=True)
class RandomStream:
    """Random numbers of one seed. Threads may share a stream; it holds no position.

    Attributes:
        seed: an integer from 0 to 2¹²⁸ − 1; from the operating system's entropy by default. It stays with the
            worker: who knows it knows every mask and all noise of its training. It is left out of `repr`.

    Raises:
        ConfigError: the seed is no such integer.
    """

    seed: int = dataclasses.field(default_factory=lambda: secrets.randbits(_SEED_BITS), repr=False)

    def __post_init__(self) -> None:
        with contextlib.suppress(TypeError):  # NumPy's integers are integers too
            object.__setattr__(self, "seed", operator.index(self.seed))
        if not isinstance(self.seed, int) or not 0 <= self.seed < 1 << _SEED_BITS:
            raise ConfigError(
                "the seed of random numbers is an integer from 0 to 2**128 - 1, and this is not one. "
                "Leave it out to get one from the operating system."
            )

    @classmethod
    def from_json(cls, value: object) -> "RandomStream":
        """The stream whose seed `to_json` wrote.

        Raises:
            ConfigError: it is not a string of 32 hexadecimal digits.
        """
        if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{32}", value):
            raise ConfigError(
                "the seed of random numbers is written as a string of 32 hexadecimal digits (0-9, a-f), and "
                "this is not one. Training can go on with a new seed, but not with the same numbers."
            )
        return cls(int(value, 16))

    def to_json(self) -> str:
        """The seed as 32 hexadecimal digits. JSON's numbers have too few."""
        return f"{self.seed:032x}"

    def words(self, count: int, *, cycle: int, step: int, number: int) -> npt.NDArray[np.uint64]:
        """The first `count` words of 64 random bits of a draw, from which its numbers are made.

        Args:
            count: how many words.
            cycle: as for `uniform`, like `step` and `number`.

        Raises:
            PlanInputError: cycle, step or number is no integer from 0 to 2⁶⁴ − 1.
        """
        words: npt.NDArray[np.uint64] = self._at(cycle, step, number).random_raw(count)
        return words

    def uniform(
        self,
        shape: Sequence[int],
        *,
        cycle: int,
        step: int,
        number: int,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """Numbers from 0 to 1 without 1, all equally likely: multiples of 2⁻²⁴ (float32) or 2⁻⁵³ (float64).

        Another step, cycle or number gives other numbers, independent of these. A tensor of another shape has
        the same numbers, as far as they go, in row-major order.

        Args:
            shape: the extents of the result.
            cycle: number of the cycle, from 0 to 2⁶⁴ − 1.
            step: number of the training step in the cycle, from 0 to 2⁶⁴ − 1.
            number: which random input of the Plan they are for, from 0 to 2⁶⁴ − 1.
            dtype: float32 or float64.

        Returns:
            A tensor on the CPU, contiguous, that shares memory with nothing else.

        Raises:
            PlanInputError: the dtype is another one, or cycle, step or number is no such integer.
        """
        return _filled(_UNIFORM, dtype, shape, self._at(cycle, step, number))

    def normal(
        self,
        shape: Sequence[int],
        *,
        cycle: int,
        step: int,
        number: int,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """Normally distributed numbers with mean 0 and variance 1.

        They are computed in float64. So float32 numbers of two implementations differ by their last bit at
        most, which is less than 5e-7. The largest possible number is 6.66 in float32, and 8.57 in float64.

        Args:
            shape: the extents of the result.
            cycle: as for `uniform`, like `step` and `number`.
            dtype: float32 or float64.

        Returns:
            A tensor on the CPU, contiguous, that shares memory with nothing else.

        Raises:
            PlanInputError: the dtype is another one, or cycle, step or number is no such integer.
        """
        return _filled(_NORMAL, dtype, shape, self._at(cycle, step, number))

    def _at(self, cycle: int, step: int, number: int) -> np.random.Philox:
        """This thread's generator, set to the first word of a draw."""
        if not (_is_word(cycle) and _is_word(step) and _is_word(number)):
            raise PlanInputError(
                "the cycle, step and number of a random input are integers from 0 to 2**64 - 1, and these "
                f"are not: cycle {cycle!r}, step {step!r}, number {number!r}."
            )
        philox = _THREAD.philox
        state: Any = {
            "bit_generator": "Philox",
            # NumPy adds one to the counter before each block: blocks count from 1.
            "state": {
                "counter": (0, number, step, cycle),
                "key": (self.seed % _WORD, self.seed // _WORD),
            },
            "buffer": (0, 0, 0, 0),
            "buffer_pos": 4,  # of 4: the buffer is empty
            "has_uint32": 0,
            "uinteger": 0,
        }
        philox.state = state
        return philox


def _is_word(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < _WORD


class _Thread(threading.local):
    """A generator for each thread: setting its state takes a tenth of the time that making one does."""

    def __init__(self) -> None:
        self.philox = np.random.Philox(key=0)


_THREAD = _Thread()


def _filled(
    fills: Mapping[torch.dtype, tuple[type, _Fill]],
    dtype: torch.dtype,
    shape: Sequence[int],
    philox: np.random.Philox,
) -> torch.Tensor:
    if dtype not in fills:
        raise PlanInputError(
            f"random numbers are made as float32 or float64, and {dtype} was asked for. Ask for float32, and "
            "convert what comes."
        )
    kind, fill = fills[dtype]
    try:
        # NumPy's memory, not PyTorch's: it asks for huge pages, which takes a third off large tensors
        numbers: _Array = np.empty(shape, kind)
    except (TypeError, ValueError) as error:
        raise PlanInputError(f"{shape!r} is not the shape of a tensor: {error}") from error
    flat = numbers.reshape(-1)
    for begin in range(0, flat.size, _CHUNK):
        fill(philox, flat[begin : begin + _CHUNK])
    return torch.from_numpy(numbers)


def _uniform32(philox: np.random.Philox, out: _Array) -> None:
    halves = _halves(philox, out.size)
    halves >>= _EIGHT
    out[:] = halves.view(_SIGNED_HALF)  # processors convert signed integers faster, and none is negative now
    out *= _STEP32


def _uniform64(philox: np.random.Philox, out: _Array) -> None:
    out[:] = _tops(philox, out.size)
    out *= _STEP64


def _normal32(philox: np.random.Philox, out: _Array) -> None:
    halves = _halves(philox, out.size + out.size % 2)
    _box_muller(halves[0::2].astype(np.float64), halves[1::2].astype(np.float64), 32, out)


def _normal64(philox: np.random.Philox, out: _Array) -> None:
    tops = _tops(philox, out.size + out.size % 2)
    _box_muller(tops[0::2].astype(np.float64), tops[1::2].astype(np.float64), 53, out)


def _halves(philox: np.random.Philox, count: int) -> npt.NDArray[np.uint32]:
    """`count` halves of words, 32 bits each, the low half of a word first."""
    words: npt.NDArray[np.uint64] = philox.random_raw((count + 1) // 2)
    return words.astype(_LOW_FIRST, copy=False).view(_HALF)[:count]


def _tops(philox: np.random.Philox, count: int) -> npt.NDArray[np.int64]:
    """The top 53 bits of `count` words."""
    words: npt.NDArray[np.uint64] = philox.random_raw(count)
    words >>= _ELEVEN
    return words.view(np.int64)


def _box_muller(radius: _Array, angle: _Array, bits: int, out: _Array) -> None:
    """Pairs of normal numbers from pairs of integers of so many bits, side by side (Box and Muller, 1958).

    Args:
        radius: the first integers of the pairs, float64; written over.
        angle: the second ones, float64; written over.
        bits: how many bits each has.
        out: as many numbers as there are integers, or one fewer.
    """
    radius += 1.0
    radius *= 2.0**-bits  # above 0, at most 1
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle *= 2.0 * math.pi * 2.0**-bits
    turn = torch.from_numpy(angle)  # PyTorch's sine takes a third of the time of NumPy's
    cosine, sine = turn.cos().numpy(), turn.sin_().numpy()
    cosine *= radius
    sine *= radius
    out[0::2] = cosine
    out[1::2] = sine[: out.size // 2]


_UNIFORM: Mapping[torch.dtype, tuple[type, _Fill]] = {
    torch.float32: (np.float32, _uniform32),
    torch.float64: (np.float64, _uniform64),
}
_NORMAL: Mapping[torch.dtype, tuple[type, _Fill]] = {
    torch.float32: (np.float32, _normal32),
    torch.float64: (np.float64, _normal64),
}

DISTRIBUTIONS: Mapping[str, Callable[..., torch.Tensor]] = {
    UNIFORM: RandomStream.uniform,
    NORMAL: RandomStream.normal,
}
"""What a random input may ask for, by name. Each is called like the method, with the stream first."""
