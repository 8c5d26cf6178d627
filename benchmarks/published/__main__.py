"""`python -m benchmarks.published NAME`: does a published experiment again, and prints both results."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.published import fedavg, flute_lr, niid_bench
from benchmarks.published.report import Asked

EXPERIMENTS: Mapping[str, Callable[[Asked], None]] = {
    "fedavg": fedavg.run,
    "flute-lr": flute_lr.run,
    "niid-bench": niid_bench.run,
}
"""Every experiment by its name."""


def main() -> None:
    """Does the experiments that the command line names."""
    parser = argparse.ArgumentParser(prog="scripts/reproduce", description=__doc__)
    parser.add_argument("names", nargs="+", choices=EXPERIMENTS, metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the four files of MNIST")
    parser.add_argument("--fashion", type=Path, metavar="FOLDER", help="those of Fashion-MNIST")
    parser.add_argument("--seeds", type=int, default=3, help="how often each is run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help="cycles, in place of the published number")
    parser.add_argument("--only", metavar="TEXT", help="only the rows whose name holds this text")
    parser.add_argument("--engine", default="auto", help="of the simulation (default: %(default)s)")
    told = parser.parse_args()
    asked = Asked(told.data, told.fashion, told.seeds, told.only, told.rounds, told.engine)
    for name in told.names:
        print(f"\n{name}\n", flush=True)
        EXPERIMENTS[name](asked)


if __name__ == "__main__":
    main()
