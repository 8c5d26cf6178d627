"""A worker in a process of its own: `python -m tests.client.resume_in_cycle HOW URL MODEL CHECKPOINT`.

HOW is `whole` (trains and reports), `stopped` (is killed in the middle, after it wrote its checkpoint) or
`resumed` (goes on from that checkpoint, and reports). See test_resume_in_cycle.py.
"""

import asyncio
import json
import os
import pathlib
import signal
import sys
from typing import Any

import torch

from fedplan.client import Job, PlanTrainerCheckpoint, Syft
from tests.client.training_cases import make_source

SEED = 5
STOP = (1, 2)


async def train(job: Job, stop: pathlib.Path | None = None, **options: Any) -> None:
    """Trains for three epochs, or what is left of them, and reports."""
    torch.manual_seed(21)  # decides the order of the loader
    training = job.train("training_plan", **make_source("fedplan loader"), epochs=3, seed=SEED, **options)
    if stop is not None:
        training.on("batch_end", lambda e: training.stop() if (e.epoch, e.batch) == STOP else None)
    trained = await training.wait()
    if stop is None:
        await job.report(await job.model.create_serialized_diff_from_model(trained))
    else:
        stop.write_text(json.dumps(training.create_checkpoint().to_dict()))
        os.kill(os.getpid(), signal.SIGKILL)


async def run(how: str, url: str, model: str, path: pathlib.Path) -> None:
    async with Syft(url) as syft:
        job = syft.new_job(model, "1.0")
        if how == "resumed":
            checkpoint = PlanTrainerCheckpoint.from_json(syft, path.read_text())
            await job.resume(checkpoint)
            await train(job, checkpoint=checkpoint)
        else:
            await job.start()
            await train(job, stop=path if how == "stopped" else None)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:4], pathlib.Path(sys.argv[4])))  # type: ignore[call-arg]
