"""Workers of all kinds in one cycle, weighted by samples: those of fedplan tell theirs, browsers do not."""

import asyncio
import operator

import pytest
import torch

from fedplan.client import participate_async

from .trainings import TRAININGS
from .workers import take_part


@pytest.mark.parametrize("training", [*TRAININGS, "a CNN, digits"], indirect=True)
async def test_workers_of_all_kinds_train_in_one_cycle(server, peer, host, training):
    name = await host(min_workers=4, max_workers=4, max_diffs=4, num_cycles=1)
    batches = [training.batches(seed, count) for seed, count in enumerate((2, 3, 4, 5))]
    ws, http = f"ws://{server}", f"http://{server}"

    in_python = [
        participate_async(
            url,
            name,
            "1.0",
            torch.cat([data for data, _ in mine]),
            torch.cat([target for _, target in mine]),
            wait=True,
            verbose=True,
            progress=False,
            steps_per_epoch=len(mine),
            inputs=training.input_specs,
            outputs=training.output_specs,
        )
        for url, mine in zip((ws, http), batches[:2], strict=True)
    ]
    in_javascript = [
        take_part(runtime, url, name, training, [mine])
        for (runtime, url), mine in zip((("Node", ws), ("Chromium", http)), batches[2:], strict=True)
    ]
    outcomes = await asyncio.gather(*in_python, *in_javascript)

    diffs = []
    for place, (outcome, mine) in enumerate(zip(outcomes, batches, strict=True)):
        losses, trained = training.train(training.params, mine)
        if place < len(in_python):  # those tell the mean of their cycle, over samples
            sizes = [len(data) for data, _ in mine]
            losses = [sum(map(operator.mul, losses, sizes)) / sum(sizes)]
        assert outcome.losses == pytest.approx(losses, abs=1e-4)
        diffs.append([a - b for a, b in zip(training.params, trained, strict=True)])
    told = torch.tensor([float(sum(len(data) for data, _ in mine)) for mine in batches[:2]])
    weights = torch.cat(
        [told, told.mean().expand(2)]
    )  # who tells nothing counts as the mean of those who tell
    await peer.until_checkpoint(2, name)
    for index, reached in enumerate(await peer.checkpoint(name, 2)):
        mean = torch.tensordot(weights / weights.sum(), torch.stack([diff[index] for diff in diffs]), dims=1)
        torch.testing.assert_close(torch.tensor(reached), training.params[index] - mean, atol=1e-5, rtol=1e-5)
