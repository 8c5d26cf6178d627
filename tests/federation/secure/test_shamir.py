"""Secrets in shares."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import SecureAggregationError
from fedplan.federation.secure.shamir import PRIME, combine, draw_below_prime, recover, split

SECRETS = st.one_of(st.sampled_from([0, 1, PRIME - 1]), st.integers(0, PRIME - 1))


@given(SECRETS, st.integers(1, 12), st.integers(0, 8), st.randoms(use_true_random=False))
def test_any_shares_that_are_enough_give_the_secret(secret, threshold, more, chance):
    points = chance.sample(range(1, 10_000), threshold + more)
    shares = dict(zip(points, split(secret, threshold, points, chance.randbytes), strict=True))
    some = chance.sample(points, chance.randint(threshold, len(points)))

    assert combine({point: shares[point] for point in some}) == secret


@given(SECRETS, SECRETS, st.integers(2, 6), st.randoms(use_true_random=False))
def test_shares_that_are_too_few_fit_every_secret(secret, other, threshold, chance):
    points = range(1, threshold)  # one too few
    shares = dict(
        zip(points, split(secret, threshold, range(1, threshold + 1), chance.randbytes)[:-1], strict=True)
    )
    further = threshold + 7
    # Some value at a further point makes these shares those of the other secret.
    basis = combine({**dict.fromkeys(points, 0), further: 1})
    value = (other - combine({**shares, further: 0})) * pow(basis, -1, PRIME) % PRIME

    assert combine({**shares, further: value}) == other


def test_known_shares():
    """f(x) = 5 + 7x + 11x², worked out by hand."""
    coefficients = iter([(7).to_bytes(32, "big"), (11).to_bytes(32, "big")])
    shares = split(5, 3, [1, 2, 3, 10], lambda _: next(coefficients))

    assert shares == [23, 63, 125, 1175]
    assert combine({2: 63, 10: 1175, 1: 23}) == 5


def test_p_is_the_largest_prime_of_256_bits():
    assert all(pow(2, n - 1, n) != 1 for n in range(PRIME + 2, 2**256, 2))
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in (2, 3, 5, 7, 11, 13))


def test_what_reaches_p_is_drawn_again():
    drawn = iter(
        [PRIME.to_bytes(32, "big"), (2**256 - 1).to_bytes(32, "big"), (PRIME - 1).to_bytes(32, "big")]
    )

    assert draw_below_prime(lambda _: next(drawn)) == PRIME - 1


@given(st.integers(0, 8), st.integers(1, PRIME - 1))
def test_one_wrong_share_does_not_hide_the_secret(place, wrong):
    points = range(1, 10)
    shares = dict(zip(points, split(42, 5, points, random.Random(place).randbytes), strict=True))
    shares[points[place]] = (shares[points[place]] + wrong) % PRIME

    assert recover(shares, 5, lambda found: found == 42) == 42


def test_what_cannot_be_recovered_is_not_made_up():
    shares = dict(zip([1, 2, 3], split(42, 3, [1, 2, 3]), strict=True))

    assert recover({**shares, 2: shares[2] ^ 1}, 3, lambda found: found == 42) is None
    assert recover({1: shares[1], 2: shares[2]}, 3, lambda _: True) is None


@pytest.mark.parametrize(
    ("secret", "threshold", "points"),
    [(PRIME, 1, [1]), (-1, 1, [1]), (0, 2, [1]), (0, 0, [1]), (0, 1, [0]), (0, 1, [1, 1])],
)
def test_what_cannot_be_shared_is_refused(secret, threshold, points):
    with pytest.raises(SecureAggregationError):
        split(secret, threshold, points)
