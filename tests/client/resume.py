"""Resumes trainings in this process: `python -m tests.client.resume FOLDER`, see test_resume.py."""

import asyncio
import json
import pathlib
import sys

from fedplan.client import PlanTrainerCheckpoint
from tests.client.training_cases import make_plan, make_source, make_trainer


async def resume(folder: pathlib.Path) -> None:
    for path in sorted(folder.glob("*.json")):
        case = json.loads(path.read_text())
        trainer = make_trainer(
            plan=make_plan("Adam", dropout=0.5),
            **make_source(case["source"]),
            checkpoint=PlanTrainerCheckpoint.from_json(None, case["checkpoint"]),
        )
        await trainer.resume()
        path.with_suffix(".state.pb").write_bytes(trainer.current_model.serialize())


if __name__ == "__main__":
    asyncio.run(resume(pathlib.Path(sys.argv[1])))
