"""An audit: can what is released tell whether a canary took part, better than the stated ε allows?

Many times a tiny model is trained for some rounds, with a canary among its workers or with zeros in its
place. Whoever sees the released models guesses which it was. (ε, δ) bounds how often that can succeed: for
any rule, true positives ≤ e^ε · false positives + δ. So each rule gives a lower bound of ε, with confidence
intervals of Clopper and Pearson. It must be below the stated ε, and above it where something is wrong.
"""

import math

import numpy as np
from scipy import stats

from fedplan.federation import ServerState, Update, next_model
from fedplan.federation.privacy import epsilon_after, mechanism
from tests.federation.made import strategy, wire

CLIP, MULTIPLIER, DELTA, ROUNDS, TRIALS = 0.5, 2.5, 1e-5, 2, 1500
STATED = epsilon_after(ROUNDS, MULTIPLIER, DELTA)
LAYOUT = (((3,), "float32"), ((), "float32"))
CANARY = [wire([40.0, -40.0, 40.0]), wire(40.0)]
OTHERS = [[wire([0.1, 0.2, -0.1]), wire(0.05)], [wire([-0.2, 0.1, 0.1]), wire(-0.1)]]
NOTHING = [wire(np.zeros(3)), wire(0.0)]
DIRECTION = np.array([0.5, -0.5, 0.5, 0.5])


def prepared(canary):
    """The strategy, and the average of a round's reports, which is the same in each trial."""
    privacy = {"clip": CLIP, "noise_multiplier": MULTIPLIER, "cohort": 3, "delta": DELTA}
    made = strategy("fedavg", layout=LAYOUT, server={"privacy": privacy})
    sums = made.nothing()
    for diff in (CANARY if canary else NOTHING, *OTHERS):
        made.add(sums, Update(diff))
    return made, sums.average()


def trained(canary, made, average, number):
    """The change of a model over all rounds: (numbers,)."""
    model, state = NOTHING, ServerState()
    for cycle in range(ROUNDS):
        key = bytes([canary, cycle]) + number.to_bytes(30, "big")
        model, state = next_model(made, model, average, state, key)
    return -np.concatenate([np.ravel(tensor.array) for tensor in model])


def audited():
    """The largest ε that the guesses prove with 99.9 %."""
    scores = []
    for canary in (0, 1):
        made, average = prepared(canary)
        scores.append(np.array([trained(canary, made, average, n) @ DIRECTION for n in range(TRIALS)]))
    without, among = (np.sort(found[TRIALS // 3 :]) for found in scores)
    chosen = np.quantile(scores[0][: TRIALS // 3], [0.5, 0.9, 0.98])  # by other trials than those that count
    count, bounds = len(among), []
    for threshold in (*chosen, max(chosen) + CLIP / 4):
        hits, alarms = int((among > threshold).sum()), int((without > threshold).sum())
        least = stats.beta.ppf(0.001 / 8, hits, count - hits + 1) if hits else 0.0
        most = stats.beta.ppf(1 - 0.001 / 8, alarms + 1, count - alarms)
        if least > DELTA:
            bounds.append(math.log((least - DELTA) / most))
    return max(bounds, default=0.0)


def test_the_stated_epsilon_holds_and_the_audit_proves_some_of_it():
    assert 0.3 < audited() < STATED < 3


def test_noise_at_a_quarter_of_what_is_stated_is_found(monkeypatch):
    drawn = mechanism.discrete_gaussian
    monkeypatch.setattr(mechanism, "discrete_gaussian", lambda s, sigma, count: drawn(s, sigma / 4, count))
    assert audited() > STATED


def test_a_clip_that_is_not_applied_is_found(monkeypatch):
    monkeypatch.setattr(mechanism, "clipped_values", lambda values, clip, most: values)
    assert audited() > STATED
