"""`scripts/bench --peers`: steady rounds of the same task by fedplan, pfl-research and Flower, in one run.

Each simulator has both cores, or as many as there are, and takes its turn twice. The first rounds, in which
processes start and Plans are compiled, are left out.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.peers.task import write_data

ROUNDS, FIRST, TURNS = 25, 5, 2
MODULE = [sys.executable, "-m"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--module"]
SIMULATORS = {
    "fedplan.simulate": [*MODULE, "benchmarks.peers.ours"],
    "pfl 0.6, one process": [*MODULE, "benchmarks.peers.pfl_research"],
    "pfl 0.6, two processes": [*TORCHRUN, "benchmarks.peers.pfl_research"],
    "Flower 1.42": [*MODULE, "benchmarks.peers.flower"],
    "a loop in eager PyTorch, one thread": [*MODULE, "benchmarks.peers.eager"],
}


def main() -> None:
    """Prints the table."""
    found: dict[str, list[float]] = {name: [] for name in SIMULATORS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        for _ in range(TURNS):
            for simulator, command in SIMULATORS.items():
                found[simulator] += _rounds([*command, str(folder), str(ROUNDS)])
    ours = statistics.median(found["fedplan.simulate"])
    print("| simulator | a round | quartiles | beside fedplan |\n|---|---|---|---|")
    for simulator, seconds in found.items():
        low, middle, high = statistics.quantiles(seconds, n=4)
        print(
            f"| {simulator} | {1000 * middle:.0f} ms | {1000 * low:.0f} to {1000 * high:.0f} ms "
            f"| {middle / ours:.2f} |"
        )


def _rounds(command: list[str]) -> list[float]:
    """Seconds of each steady round.

    Raises:
        SystemExit: it failed; its words are printed.
    """
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    env = {**os.environ, **quiet}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # nosec B603  # ours
    told = [line.split() for line in done.stdout.splitlines() if line.startswith("seconds ")]
    if done.returncode or len(told) != ROUNDS:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return [float(words[1]) for words in told[FIRST:]]


if __name__ == "__main__":
    main()
