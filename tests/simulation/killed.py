"""A simulation that kills itself: `python -m tests.simulation.killed FOLDER CASE WHERE COUNT ENGINE`.

WHERE is ``data`` (before client COUNT of this process trains), ``write`` (before checkpoint COUNT gets its
name), ``row`` (after it has it) or ``never``.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import fedplan
from fedplan.data import DataLoader, TensorDataset
from tests.simulation.cases import BATCH, data_of, simulate

ROUNDS = 5


def loader_of(client: int) -> DataLoader:
    return DataLoader(TensorDataset(*data_of(client)), BATCH, seed=client)


SLOW = fedplan.Availability(dropout=0.1, seconds=60, spread=0.6, jitter=0.3)

CASES: dict[str, dict[str, Any]] = {
    "scaffold": {"kind": "scaffold", "server": {"strategy": {"name": "scaffold", "population": 12}}},
    "topk": {"server": {"report_formats": ["topk"]}},
    "fedadam": {"kind": "dropout", "server": {"strategy": "fedadam"}},
    "fedbuff": {"server": {"strategy": {"name": "fedbuff", "k": 3}}, "availability": SLOW},
    "deadlines": {"server": {"min_diffs": 3, "cycle_length": 60.0}, "availability": SLOW},
    "centred": {"server": {"strategy": "centred_clipping", "min_diffs": 5}},
    "loaders": {"data": loader_of},
    "resting": {"server": {"do_not_reuse_workers_until_cycle": 2}},
}
"""Each has something else that must be remembered."""


def run(case: str, data: Callable[[int], Any] | None = None, **options: Any) -> fedplan.Simulation:
    told = {"population": 12, "cohort": 5, "rounds": ROUNDS, **CASES[case], **options}
    usual = told.pop("data", data_of)
    return simulate(clients=data or usual, **told)


def main() -> None:
    folder, case, where, count, engine = sys.argv[1:]
    left = int(count)

    def kill_when(place: str) -> None:
        nonlocal left
        if place == where:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def data(client: int) -> Any:
        kill_when("data")
        return CASES[case].get("data", data_of)(client)

    replace = os.replace

    def replacing(source: Any, target: Any) -> None:
        if str(target).endswith(".zip"):
            kill_when("write")
        replace(source, target)

    os.replace = replacing
    told = {"checkpoint": folder, "memory": 600, "engine": engine}
    run(case, data, progress=lambda _: kill_when("row"), **told)


if __name__ == "__main__":
    main()
