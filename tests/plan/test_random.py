"""A stream's numbers are those that `docs/randomness.md` defines, whoever asks, when, and in what order."""

import concurrent.futures
import itertools
import json
import math
import re

import numpy as np
import pytest
import torch

from fedplan.errors import ConfigError, PlanInputError
from fedplan.plan.random import DISTRIBUTIONS, RandomStream
from tests.plan import random_reference as reference

STREAM = RandomStream(0x243F6A8885A308D313198A2E03707344)
HERE = {"cycle": 2, "step": 5, "number": 3}

DRAWS = json.loads(reference.VECTORS.read_text())["draws"]


def place(draw: dict[str, str]) -> dict[str, int]:
    return {name: int(draw[name]) for name in ("cycle", "step", "number")}


# What the numbers are


@pytest.mark.parametrize(("counter", "key", "block"), reference.KNOWN_ANSWERS)
def test_philox_gives_the_known_answers_of_its_authors(
    counter: list[int], key: list[int], block: list[int]
) -> None:
    assert reference.philox4x64(counter, key) == block


@pytest.mark.parametrize(("counter", "key", "block"), reference.KNOWN_ANSWERS)
def test_numpy_adds_one_to_the_counter_before_each_block(
    counter: list[int], key: list[int], block: list[int]
) -> None:
    whole = sum(word << 64 * place for place, word in enumerate(counter))
    before = (whole - 1) % 2**256
    philox = np.random.Philox(key=key[1] << 64 | key[0], counter=before)
    assert philox.random_raw(4).tolist() == block


def test_the_file_of_vectors_is_what_the_definition_gives() -> None:
    assert json.loads(reference.VECTORS.read_text()) == reference.vectors()


@pytest.mark.parametrize("draw", DRAWS, ids=lambda draw: draw["words"][0])
def test_words_and_uniform_numbers_are_those_of_the_vectors(draw: dict[str, list[float]]) -> None:
    stream = RandomStream.from_json(draw["seed"])
    assert [f"{w:016x}" for w in stream.words(6, **place(draw))] == draw["words"]
    for dtype, count in ((torch.float32, 12), (torch.float64, 6)):
        numbers = stream.uniform((count,), **place(draw), dtype=dtype)
        assert numbers.dtype == dtype
        assert numbers.tolist() == draw[f"uniform {str(dtype)[6:]}"]


@pytest.mark.parametrize("draw", DRAWS, ids=lambda draw: draw["words"][0])
def test_normal_numbers_are_those_of_the_vectors_but_for_rounding(draw: dict[str, list[float]]) -> None:
    stream = RandomStream.from_json(draw["seed"])
    for dtype, count, tolerance in ((torch.float32, 12, 5e-7), (torch.float64, 6, 1e-14)):
        numbers = stream.normal((count,), **place(draw), dtype=dtype)
        assert numbers.dtype == dtype
        assert numbers.tolist() == pytest.approx(draw[f"normal {str(dtype)[6:]}"], rel=0, abs=tolerance)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 32767, 32768, 32769, 65536, 100_001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_number_of_them_can_be_drawn(count: int, dtype: torch.dtype) -> None:
    words = STREAM.words(2 * math.ceil(count / 2), **HERE)
    if dtype == torch.float32:
        integers, bits, dropped = words.view("<u4"), 32, 8
    else:
        integers, bits, dropped = words >> np.uint64(11), 53, 0
    uniform = (integers[:count] >> integers.dtype.type(dropped)) * 2.0 ** (dropped - bits)
    assert STREAM.uniform((count,), **HERE, dtype=dtype).tolist() == uniform.tolist()

    pairs = integers[: 2 * math.ceil(count / 2)].reshape(-1, 2)
    radius = np.sqrt(-2 * np.log((pairs[:, 0] + 1.0) * 2.0**-bits))
    angle = pairs[:, 1] * (2 * np.pi * 2.0**-bits)
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]
    drawn = STREAM.normal((count,), **HERE, dtype=dtype).double().numpy()
    assert np.abs(drawn - normal).max(initial=0) < (5e-7 if dtype == torch.float32 else 1e-14)


# Where they come from


@pytest.mark.parametrize("draw", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_a_smaller_batch_has_the_first_numbers_of_a_larger_one(draw: RandomStream.uniform) -> None:
    whole = draw(STREAM, (64, 7, 11), **HERE)
    assert torch.equal(draw(STREAM, (5, 7, 11), **HERE), whole[:5])
    assert torch.equal(draw(STREAM, (64, 77), **HERE), whole.view(64, 77))
    assert draw(STREAM, (0, 7), **HERE).shape == (0, 7)
    assert draw(STREAM, (), **HERE) == whole[0, 0, 0]


@pytest.mark.parametrize("draw", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_order_and_repetition_do_not_matter(draw: RandomStream.uniform) -> None:
    places = [{"cycle": c, "step": s, "number": n} for c, s, n in itertools.product(range(2), repeat=3)]
    once = [draw(STREAM, (3,), **place) for place in places]
    again = [draw(STREAM, (3,), **place) for place in reversed(places)]
    assert torch.equal(torch.stack(once), torch.stack(again[::-1]))


def test_a_draw_belongs_to_whoever_made_it() -> None:
    first = STREAM.uniform((4,), **HERE)
    first.zero_()
    assert STREAM.uniform((4,), **HERE).min() > 0


def test_threads_share_a_stream() -> None:
    def drawn(number: int) -> torch.Tensor:
        return STREAM.normal((50_000,), cycle=0, step=0, number=number)

    alone = [drawn(number) for number in range(16)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        together = list(threads.map(drawn, range(16)))
    assert torch.equal(torch.stack(alone), torch.stack(together))


def test_generators_that_a_program_has_itself_are_left_alone() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    STREAM.normal((4,), **HERE)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


# The seed


def test_the_same_numbers_come_from_a_seed_that_was_written_down() -> None:
    stream = RandomStream()
    read = RandomStream.from_json(json.loads(json.dumps(stream.to_json())))
    assert read == stream
    assert torch.equal(read.uniform((8,), **HERE), stream.uniform((8,), **HERE))


def test_a_seed_comes_from_the_operating_system_by_default() -> None:
    assert len({RandomStream().seed for _ in range(100)}) == 100


def test_a_seed_is_not_shown() -> None:
    assert repr(RandomStream(123456)) == "RandomStream()"


@pytest.mark.parametrize("seed", [-1, 2**128, 0.5, "1", None])
def test_what_is_no_seed_is_refused(seed: object) -> None:
    with pytest.raises(ConfigError, match=re.escape("from 0 to 2**128 - 1")):
        RandomStream(seed)


@pytest.mark.parametrize(
    "text", [5, None, "", "1", "0x" + "0" * 30, "0" * 33, "0" * 31 + "G", "0" * 32 + "\n"]
)
def test_what_is_no_written_seed_is_refused_and_not_repeated(text: object) -> None:
    with pytest.raises(ConfigError, match="a string of 32 hexadecimal digits") as raised:
        RandomStream.from_json(text)
    assert repr(text) not in str(raised.value)


# What is asked for


@pytest.mark.parametrize("name", ["cycle", "step", "number"])
@pytest.mark.parametrize("value", [-1, 2**64, 1.0, "1", None])
def test_places_are_whole_numbers_of_64_bits(name: str, value: object) -> None:
    with pytest.raises(PlanInputError, match=re.escape(f"{name} {value!r}")):
        STREAM.uniform((1,), **HERE | {name: value})


@pytest.mark.parametrize("draw", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_other_dtypes_are_made_by_converting(draw: RandomStream.uniform) -> None:
    with pytest.raises(PlanInputError, match=r"torch\.float16 was asked for\. Ask for float32"):
        draw(STREAM, (1,), **HERE, dtype=torch.float16)


@pytest.mark.parametrize("shape", [(-1,), (2.5,), ("a",)])
def test_what_is_no_shape_is_refused(shape: tuple[object, ...]) -> None:
    with pytest.raises(PlanInputError, match="is not the shape of a tensor"):
        STREAM.uniform(shape, **HERE)


# Whether they are random. The seeds are fixed: these tests give the same result each time.


def kolmogorov_distance(probabilities: torch.Tensor) -> float:
    """Largest distance between the distribution of these numbers and the uniform one."""
    ordered = probabilities.double().sort().values
    steps = torch.arange(len(ordered) + 1, dtype=torch.float64) / len(ordered)
    return max((steps[1:] - ordered).max().item(), (ordered - steps[:-1]).max().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_numbers_are_distributed_as_they_should_be(distribution: str, dtype: torch.dtype) -> None:
    count = 1_000_000
    numbers = DISTRIBUTIONS[distribution](STREAM, (count,), **HERE, dtype=dtype).double()
    mean, variance, fourth = (0.5, 1 / 12, 1 / 80) if distribution == "uniform" else (0.0, 1.0, 3.0)
    centred = numbers - mean
    # four standard errors: 1 in 16,000 of all seeds would not do
    assert abs(centred.mean()) < 4 * math.sqrt(variance / count)
    assert abs((centred**2).mean() - variance) < 4 * math.sqrt((fourth - variance**2) / count)
    probabilities = numbers if distribution == "uniform" else torch.special.ndtr(numbers)
    assert kolmogorov_distance(probabilities) < 1.95 / math.sqrt(count)  # 1 in 1,000 would not


def test_uniform_numbers_reach_from_0_to_just_below_1() -> None:
    numbers = STREAM.uniform((40_000_000,), **HERE)
    assert numbers.min() == 0  # one of 2²⁴ is
    assert numbers.max() == 1 - 2.0**-24


def test_normal_numbers_reach_far_into_the_tails() -> None:
    count = 10_000_000
    numbers = STREAM.normal((count,), **HERE).abs()
    for distance in (1, 2, 3, 4, 5):
        expected = count * math.erfc(distance / math.sqrt(2))
        assert abs((numbers > distance).sum() - expected) < 4 * math.sqrt(expected)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1e-3])
def test_a_mask_keeps_the_share_that_it_should(p: float) -> None:
    count = 10_000_000
    dropped = (STREAM.uniform((count,), **HERE) < p).sum().item()
    assert abs(dropped - count * p) < 4 * math.sqrt(count * p * (1 - p))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_draws_are_independent_of_each_other(distribution: str) -> None:
    """Also those whose seeds, cycles, steps and numbers differ by one, or in one high bit."""
    size = 10_000
    apart = [0, 1, 2, 2**32, 2**63]
    streams = [RandomStream(seed) for seed in (0, 1, 2**64, 2**127)]
    draws = [
        DISTRIBUTIONS[distribution](stream, (size,), cycle=c, step=s, number=n)
        for stream in streams
        for c, s, n in itertools.product(apart, repeat=3)
    ]
    correlations = torch.corrcoef(torch.stack(draws).double())
    correlations.fill_diagonal_(0)
    # of 124,750 pairs, each with a standard deviation of 0.01; beyond 0.055 is 1 of 26 million
    assert correlations.abs().max() < 0.055


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_numbers_of_a_draw_are_independent_of_each_other(distribution: str) -> None:
    """Also those that share a word or a block."""
    numbers = DISTRIBUTIONS[distribution](STREAM, (125_000, 8), **HERE).double()
    correlations = torch.corrcoef(numbers.T)
    squares = torch.corrcoef((numbers.T - numbers.mean()) ** 2)
    for matrix in (correlations, squares):
        assert matrix.fill_diagonal_(0).abs().max() < 4 / math.sqrt(125_000)


def test_each_bit_of_a_word_is_set_half_of_the_time() -> None:
    count = 100_000
    words = STREAM.words(count, **HERE)
    shares = [((words >> np.uint64(bit)) & np.uint64(1)).sum() / count for bit in range(64)]
    assert max(abs(share - 0.5) for share in shares) < 4 * 0.5 / math.sqrt(count)


def test_a_seed_may_be_an_integer_of_numpy() -> None:
    assert RandomStream(np.int64(7)) == RandomStream(7)  # type: ignore[arg-type]
    assert RandomStream(np.int64(7)).to_json() == RandomStream(7).to_json()  # type: ignore[arg-type]
