"""Random inputs as `docs/randomness.md` defines them, in nothing but Python's integers and math.

`python -m tests.plan.random_reference` writes `random_vectors.json`.
"""

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

VECTORS = Path(__file__).with_name("random_vectors.json")

MASK = 2**64 - 1

# Random123's known answers for philox4x64 with 10 rounds: counter, key, block.
KNOWN_ANSWERS = [
    (
        [0, 0, 0, 0],
        [0, 0],
        [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B],
    ),
    (
        [MASK, MASK, MASK, MASK],
        [MASK, MASK],
        [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0],
    ),
    (
        [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
        [0x452821E638D01377, 0xBE5466CF34E90C6C],
        [0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6],
    ),
]

# Seed, cycle, step and number of the draws in `random_vectors.json`.
PLACES = [
    (0, 0, 0, 0),
    (1, 0, 0, 0),
    (2**64, 0, 0, 0),
    (0, 1, 0, 0),
    (0, 0, 1, 0),
    (0, 0, 0, 1),
    (0x0123456789ABCDEF_FEDCBA9876543210, 7, 1234, 36),
    (2**128 - 1, MASK, MASK, MASK),
]


def philox4x64(counter: list[int], key: list[int]) -> list[int]:
    """One block of Philox4x64-10: Salmon et al., 2011, section 4.3."""
    (x0, x1, x2, x3), (k0, k1) = counter, key
    for _ in range(10):
        product0, product1 = 0xD2E7470EE14C6C93 * x0, 0xCA5A826395121157 * x2
        x0, x1, x2, x3 = (
            product1 >> 64 ^ x1 ^ k0,
            product1 & MASK,
            product0 >> 64 ^ x3 ^ k1,
            product0 & MASK,
        )
        k0, k1 = k0 + 0x9E3779B97F4A7C15 & MASK, k1 + 0xBB67AE8584CAA73B & MASK
    return [x0, x1, x2, x3]


def words(count: int, seed: int, cycle: int, step: int, number: int) -> list[int]:
    blocks = range(1, math.ceil(count / 4) + 1)
    key = [seed & MASK, seed >> 64]
    return [w for block in blocks for w in philox4x64([block, number, step, cycle], key)][:count]


def halves(of: list[int]) -> list[int]:
    return [half for word in of for half in (word & 0xFFFFFFFF, word >> 32)]


def uniform32(of: list[int]) -> list[float]:
    return [(half >> 8) * 2.0**-24 for half in halves(of)]


def uniform64(of: list[int]) -> list[float]:
    return [(word >> 11) * 2.0**-53 for word in of]


def normal32(of: list[int]) -> list[float]:
    return [rounded(z) for z in box_muller(halves(of), 32)]


def normal64(of: list[int]) -> list[float]:
    return list(box_muller([word >> 11 for word in of], 53))


def box_muller(integers: list[int], bits: int) -> Iterator[float]:
    for first, second in zip(integers[0::2], integers[1::2], strict=True):
        radius = math.sqrt(-2 * math.log((first + 1) * 2.0**-bits))
        angle = second * (2 * math.pi * 2.0**-bits)
        yield radius * math.cos(angle)
        yield radius * math.sin(angle)


def rounded(number: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("f", struct.pack("f", number))[0])


def vectors() -> dict[str, object]:
    return {
        "blocks": [
            {"counter": hexadecimal(counter), "key": hexadecimal(key), "block": hexadecimal(block)}
            for counter, key, block in KNOWN_ANSWERS
        ],
        "draws": [draw(*place) for place in PLACES],
    }


def draw(seed: int, cycle: int, step: int, number: int) -> dict[str, object]:
    of = words(6, seed, cycle, step, number)
    return {
        "seed": f"{seed:032x}",
        "cycle": str(cycle),
        "step": str(step),
        "number": str(number),
        "words": hexadecimal(of),
        "uniform float32": uniform32(of),
        "uniform float64": uniform64(of),
        "normal float32": normal32(of),
        "normal float64": normal64(of),
    }


def hexadecimal(numbers: list[int]) -> list[str]:
    return [f"{number:016x}" for number in numbers]


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
