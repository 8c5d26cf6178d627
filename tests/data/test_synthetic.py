"""Synthetic(α, β): clients whose models and inputs differ."""

import numpy as np
import pytest

from fedplan.data import Synthetic
from fedplan.errors import DataError


def test_a_client_is_the_same_whenever_it_is_asked_for():
    x, y = Synthetic(1, 1)(7)
    again = Synthetic(1, 1)
    again(3)
    assert x.dtype == np.float32
    assert x.shape == (len(y), 60)
    assert y.dtype == np.int64
    assert set(y) <= set(range(10))
    np.testing.assert_array_equal(again(7)[0], x)
    np.testing.assert_array_equal(again(7)[1], y)


def test_clients_and_seeds_differ():
    clients = [Synthetic(1, 1)(0), Synthetic(1, 1)(1), Synthetic(1, 1, seed=1)(0)]
    assert len({client[0].tobytes() for client in clients}) == 3


def test_sizes_are_fifty_and_a_log_normal_number_more():
    sizes = np.array([len(Synthetic(1, 1)(client)[1]) for client in range(400)])
    assert sizes.min() >= 50
    logarithms = np.log(np.maximum(sizes - 50, 0.5))
    assert np.median(logarithms) == pytest.approx(4, abs=0.4)
    assert np.std(logarithms) == pytest.approx(2, abs=0.3)


def centres(data, clients=200):
    """Mean input of each client."""
    return np.stack([data(client)[0].mean(0) for client in range(clients)])


def test_beta_is_how_much_inputs_differ():
    """The mean of a client's inputs, over its features, is B_k and noise of 1/√60."""
    for beta in (0.0, 1.0, 3.0):
        means = centres(Synthetic(0, beta)).mean(1)
        assert np.std(means) == pytest.approx(np.sqrt(beta**2 + 1 / 60), rel=0.2)


@pytest.mark.parametrize("seed", [0, 5])
def test_no_client_has_the_numbers_of_the_model_that_all_share(seed):
    """As drawn with the seed alone, they were client 0's: its first number, and then its inputs."""
    x, _ = Synthetic(0, 0, seed=seed, iid=True)(0)
    drawn = (x * np.arange(1, 61) ** 0.6).reshape(-1)[:500]
    y = np.concatenate([Synthetic(0, 0, seed=seed, iid=True)(client)[1] for client in range(20)])
    x = np.concatenate([Synthetic(0, 0, seed=seed, iid=True)(client)[0] for client in range(20)])
    own = np.append(np.zeros(1), drawn)  # the number before it decided its size
    weight = own[:500].reshape(50, 10)
    agree = np.mean(np.argmax(x[:, :50] @ weight, axis=1) == y)
    assert agree < 0.4


def test_features_vary_less_and_less():
    x, _ = next(pair for pair in map(Synthetic(0, 0), range(99)) if len(pair[1]) > 2000)
    np.testing.assert_allclose(x.std(0), np.arange(1, 61) ** -0.6, rtol=0.15)


def test_alpha_shifts_all_classes_alike_and_changes_no_label():
    """So it is in the paper and in its code, whatever α is said to control."""
    np.testing.assert_array_equal(Synthetic(0, 1)(3)[1], Synthetic(9, 1)(3)[1])


def test_clients_have_models_of_their_own():
    """One client's best linear model is not another's."""
    (x, y), (other_x, other_y) = [pair for pair in map(Synthetic(0, 0), range(99)) if len(pair[1]) > 1000][:2]
    weight = np.linalg.lstsq(x, np.eye(10)[y], rcond=None)[0]
    assert np.mean(np.argmax(x @ weight, axis=1) == y) > 0.6
    assert np.mean(np.argmax(other_x @ weight, axis=1) == other_y) < 0.4


def test_iid_clients_share_their_model_and_their_inputs():
    data = Synthetic(1, 1, iid=True)
    x, y = (np.concatenate(parts) for parts in zip(*map(data, range(40)), strict=True))
    half = len(x) // 2
    weight = np.linalg.lstsq(x[:half], np.eye(10)[y[:half]], rcond=None)[0]
    found = np.argmax(x[half:] @ weight, axis=1)
    assert np.mean(found == y[half:]) > 0.6  # the other clients' model holds for these
    np.testing.assert_allclose(centres(data).mean(0), 0, atol=0.1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": -1}, "alpha must be 0 or more"),
        ({"beta": float("nan")}, "beta must be 0 or more"),
        ({"features": 0}, "features must be 1 or more"),
        ({"classes": 2.5}, "classes must be 1 or more"),
        ({"seed": -1}, "the seed must be"),
    ],
)
def test_numbers_out_of_range_are_errors(wrong, message):
    with pytest.raises(DataError, match=message):
        Synthetic(**{"alpha": 1, "beta": 1, **wrong})


def test_a_client_without_a_number_is_an_error():
    with pytest.raises(DataError, match="a number from 0 on"):
        Synthetic(1, 1)(-1)
