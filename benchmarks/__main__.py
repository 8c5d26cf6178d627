"""`python -m benchmarks`: runs benchmarks and prints their tables."""

import argparse
import platform
import sys
import time
from collections.abc import Callable, Mapping

import torch

from benchmarks import (
    arrivals,
    asynchronous,
    clients,
    closing,
    codec,
    devices,
    dp_sgd,
    grid_calls,
    growth,
    privacy,
    processes,
    randomness,
    recurrence,
    reports,
    robust,
    simulate,
    startup,
    step,
    sums,
    tracing,
)
from benchmarks.line import Line, Options, table

BENCHMARKS: Mapping[str, Callable[[Options], list[Line]]] = {
    "step": step.run,
    "dp-sgd": dp_sgd.run,
    "clients": clients.run,
    "recurrence": recurrence.run,
    "tracing": tracing.run,
    "startup": startup.run,
    "codec": codec.run,
    "grid": grid_calls.run,
    "closing": closing.run,
    "asynchronous": asynchronous.run,
    "sums": sums.run,
    "growth": growth.run,
    "processes": processes.run,
    "reports": reports.run,
    "robust": robust.run,
    "privacy": privacy.run,
    "random": randomness.run,
    "simulate": simulate.run,
    "devices": devices.run,
    "arrivals": arrivals.run,
}
"""Every benchmark by its name: a function from options to the lines of its table."""


def main() -> int:
    """Runs what the command line asks for; 1 when a target is missed (never in a smoke run)."""
    parser = _parser()
    arguments = parser.parse_args()
    every = arguments.all or (arguments.smoke and not arguments.names)
    names = list(BENCHMARKS) if every else arguments.names
    if not names:
        parser.print_help()
        return 0
    device = arguments.device
    options = Options(arguments.smoke, device)
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, {device}")
    lines: list[Line] = []
    for name in names:
        began = time.monotonic()
        made = BENCHMARKS[name](options)
        if made:
            print(f"\n{table(made, judged=not options.smoke)}")
        print(f"\n{name}: {time.monotonic() - began:.0f} s", flush=True)
        lines += made
    if options.smoke:
        print("\nran: as little as possible, to see that it works; these figures tell nothing of speed.")
    return int(not options.smoke and not all(line.passed for line in lines))


def _parser() -> argparse.ArgumentParser:
    told = [f"  {name:10}  {_first_line(run)}" for name, run in BENCHMARKS.items()]
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        epilog="\n".join(["benchmarks:", *told]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="name", help="those to run")
    parser.add_argument("--all", action="store_true", help="run every benchmark")
    parser.add_argument("--smoke", action="store_true", help="run them, by default all, as shortly as can be")
    parser.add_argument("--device", default="cpu", help="where the tensors are; cpu by default")
    return parser


def _first_line(run: Callable[[Options], list[Line]]) -> str:
    """What a benchmark's module says of itself."""
    return str(sys.modules[run.__module__].__doc__).partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
