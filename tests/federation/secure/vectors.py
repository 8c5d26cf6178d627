"""Known answers of this project's own, which an implementation in another language can run.

`python -m tests.federation.secure.vectors` writes them to vectors.json beside it. docs/privacy.md says what
each one is of; bytes are in hexadecimal.
"""

import json
from pathlib import Path

import numpy as np

from fedplan.federation.secure import (
    Ring,
    Trust,
    draws,
    exponent_for,
    keystream,
    parameters_for,
    quantise,
    ring_bits,
)
from fedplan.federation.secure import keys as derivation
from fedplan.federation.secure.bitmaps import bitmap_of
from fedplan.federation.secure.envelopes import sealed
from fedplan.federation.secure.graph import NeighbourGraph
from fedplan.federation.secure.shamir import split
from tests.federation.secure.rounds import SecureRound, drawn_from

FILE = Path(__file__).with_name("vectors.json")

KEY, MANIFEST = bytes(range(32)), bytes(range(100, 132))


def packing():
    chance = np.random.default_rng(1)
    made = []
    for bits in (2, 8, 12, 15, 16, 17, 18, 32):
        numbers = chance.integers(0, 1 << bits, 11)
        made.append(
            {
                "bits": bits,
                "numbers": numbers.tolist(),
                "packed": Ring(bits).pack(numbers.astype(Ring(bits).dtype)).hex(),
            }
        )
    return made


def quantisation():
    numbers = np.array([0.0, 0.3, -0.3, 1.0, -1.0, 0.0078125, -0.99, 1e-9, 3.5, -1e30])
    made = []
    for bits, largest, share in ((8, 1.0, 1.0), (8, 1.0, 0.37), (16, 4.0, 1.0)):
        exponent = exponent_for(largest, bits)
        made.append(
            {
                "numbers": numbers.tolist(),
                "bits": bits,
                "largest": largest,
                "exponent": exponent,
                "share": share,
                "key": KEY.hex(),
                "stochastic": quantise(numbers, exponent, bits, share, draws(KEY, 10)).values.tolist(),
                "nearest": quantise(numbers, exponent, bits, share).values.tolist(),
            }
        )
    return made


def keys():
    one, other = derivation.mask_pair(KEY), derivation.mask_pair(MANIFEST)
    common = derivation.exchanged(one, other.public_key())
    envelope = derivation.envelope_key(common, MANIFEST, 3, 258)
    return {
        "mask_seeds": [KEY.hex(), MANIFEST.hex()],
        "mask_private_keys": [one.private_bytes_raw().hex(), other.private_bytes_raw().hex()],
        "mask_public_keys": [pair.public_key().public_bytes_raw().hex() for pair in (one, other)],
        "manifest_digest": MANIFEST.hex(),
        "workers": [3, 258],
        "pair_key": derivation.pair_key(one, other.public_key(), MANIFEST, 258, 3).hex(),
        "self_seed": KEY.hex(),
        "self_key_of_3": derivation.self_key(KEY, MANIFEST, 3).hex(),
        "commitment_of_3": derivation.commitment_of(KEY, MANIFEST, 3).hex(),
        "common_of_share_keys": common.hex(),
        "envelope_key_from_3_to_258": envelope.hex(),
        "shares": bytes(range(64)).hex(),
        "envelope": sealed(envelope, MANIFEST, 3, 258, bytes(range(64))).hex(),
        "stream_key": KEY.hex(),
        "stream": keystream(KEY, 80).hex(),
    }


def shamir():
    made = []
    for secret, threshold, points in ((5, 1, [1, 2]), (2**255 + 12345, 3, [1, 2, 3, 7, 100])):
        drawn = drawn_from(threshold)
        coefficients = [drawn(32).hex() for _ in range(threshold - 1)]
        made.append(
            {
                "secret": secret.to_bytes(32, "big").hex(),
                "threshold": threshold,
                "points": points,
                "drawn": coefficients,
                "shares": [
                    share.to_bytes(32, "big").hex()
                    for share in split(secret, threshold, points, drawn_from(threshold))
                ],
            }
        )
    return made


def graphs():
    return [
        {
            "workers": workers,
            "degree": degree,
            "roster_digest": KEY.hex(),
            "neighbours": {
                str(n): list(NeighbourGraph(workers, degree, KEY).neighbours(n)) for n in (0, workers - 1)
            },
        }
        for workers, degree in ((5, 4), (30, 6), (300, 20))
    ]


def parameters():
    made = []
    for workers in (3, 10, 100, 200, 500, 1000):
        for trust in Trust:
            found = parameters_for(workers, trust)
            made.append(
                {
                    "workers": workers,
                    "trust": trust.value,
                    "dropout": found.dropout,
                    "corrupt": found.corrupt,
                    "degree": found.degree,
                    "threshold": found.threshold,
                    "fewest": found.fewest,
                    "ring_bits_of_8": ring_bits(8, workers),
                }
            )
    return made


def whole_round(trust):
    """Five workers, of which one reports nothing. `drawn` is what each draws, in this order."""
    made = SecureRound(5, trust, seed=3, sizes=(3, 4))
    order = {worker.keys: place for place, worker in enumerate(made.drawing)}
    drawn = [drawn_from((3, "digits/1/7", order[worker.keys])) for worker in made.workers]
    total = made.run(reporting=[2])
    told = made.manifest
    return {
        "trust": trust.value,
        "drawn": [b"".join(draw(32) for _ in range(2 + 1 + 2 * (4 - 1))).hex() for draw in drawn],
        "identity_keys": [
            worker._signer.private_bytes_raw().hex() if worker._signer else "" for worker in made.workers
        ],
        "cycle": told.cycle,
        "keys": [worker.keys.hex() for worker in made.workers],
        "announcement": made.announcement.hex(),
        "manifest_digest": told.digest.hex(),
        "threshold": told.parameters.threshold,
        "shares": [made.shares[n].hex() for n in range(5)],
        "deliveries": [made.deliveries[n].hex() for n in range(5)],
        "values": [payload.values.tolist() for payload in made.payloads],
        "figures": [[str(figure) for figure in payload.figures] for payload in made.payloads],
        "reports": {str(n): message.hex() for n, message in sorted(made.reports.items())},
        "shared_bitmap": bitmap_of(range(5), 5).hex(),
        "lists": made.listed.hex(),
        "agreements": {str(n): message.hex() for n, message in sorted(made.agreements.items())},
        "question": made.question().hex(),
        "answers": {str(n): message.hex() for n, message in sorted(made.answers.items())},
        "sum_values": total.values.tolist(),
        "sum_figures": [str(figure) for figure in total.figures],
    }


def vectors():
    """All of them, as they stand in the file."""
    return {
        "protocol": "fedplan secure 1",
        "packing": packing(),
        "quantisation": quantisation(),
        "keys": keys(),
        "shamir": shamir(),
        "graphs": graphs(),
        "parameters": parameters(),
        "rounds": [whole_round(trust) for trust in Trust],
    }


def text():
    """The file's."""
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
    print(f"wrote {FILE}")
