"""Models that learn real digits in browsers learn them as well as in Python."""

import pytest
import torch

from tests.long import LONG

from .digits import DIGITS
from .workers import PROGRAMS, take_part

CYCLES, BATCHES = 3, 40
RUNS = [
    (runtime, training)
    for runtime in PROGRAMS
    for training in DIGITS
    if LONG or (runtime != "Chromium" and "MLP" in training)  # the others take a minute each on two cores
]


@pytest.mark.parametrize(("runtime", "training"), RUNS, indirect=["training"])
async def test_digits_are_learnt_as_well_as_in_python(server, peer, host, runtime, training):
    model = await host(max_diffs=1, num_cycles=CYCLES)
    cycles = [training.batches(seed, BATCHES) for seed in range(CYCLES)]

    outcome = await take_part(runtime, f"ws://{server}", model, training, cycles)

    assert outcome.errors == []
    losses, params = [], training.params
    for batches in cycles:
        more, params = training.train(params, batches)
        losses += more
    assert outcome.losses == pytest.approx(losses, abs=1e-4)
    in_python = training.accuracy(params)
    assert in_python > 90
    await peer.until_checkpoint(CYCLES + 1, model)
    reached = [torch.tensor(array) for array in await peer.checkpoint(model, CYCLES + 1)]
    assert training.accuracy(reached) == pytest.approx(in_python, abs=1)
    print(f"{training.accuracy(reached):.2f} % in {runtime}, {in_python:.2f} % in Python")
