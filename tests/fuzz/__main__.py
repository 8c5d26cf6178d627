"""The long form of fuzzing: `scripts/fuzz --inputs 1000000`.

Inputs are made of sound ones by random changes that keep their form (`tests.fuzz.changes`). The same seed
makes the same inputs. What fails is written to a file, which `scripts/fuzz --again FILE` tries once more; of
the target `api`, which schemathesis makes, the file holds curl commands.
"""

import argparse
import importlib.util
import random
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.fuzz.api import try_api
from tests.fuzz.decoders import decoders
from tests.fuzz.guided import run_guided
from tests.fuzz.peers import GridUnderTest, peers
from tests.fuzz.target import Target, attempt, peak_bytes

_TOLD_SECONDS = 30.0
_MOST_FAULTS = 20
"""Of one target; then the next one is tried."""

_API, _SLOW_API = "api", 40
"""A target that is not one of inputs; it gets so many times fewer requests than others get inputs."""


def main(arguments: Sequence[str]) -> int:
    """Runs what the command line asks for; 1 when an input did what none may do."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many, of all targets together")
    parser.add_argument("--seed", type=int, default=None, help="which inputs; drawn when absent")
    parser.add_argument(
        "--out", type=Path, default=Path("fuzz-faults"), help="where inputs that fail are put"
    )
    parser.add_argument("--again", type=Path, help="a file of such an input: tries it alone")
    parser.add_argument(
        "--guided",
        action="store_true",
        help="decoders alone, led by the code that an input reaches (atheris)",
    )
    parser.add_argument("targets", nargs="*", help="some targets by name; all when absent")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("error")  # as in the tests: what others send must not fill a log
    grid = GridUnderTest()
    targets = {
        target.name: target for target in (decoders() if options.guided else (*decoders(), *peers(grid)))
    }
    has_api = importlib.util.find_spec("schemathesis") is not None and not options.guided
    names = [*targets, *([_API] if has_api else [])]
    unknown = set(options.targets) - set(names)
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if options.again:
        name = options.again.name.partition("-")[0]
        if name not in targets:
            parser.error(
                f"{options.again} holds no input of {', '.join(targets)}; its commands are run by hand"
            )
        attempt(targets[name], options.again.read_bytes())
        return 0
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    names = options.targets or names
    chosen = [targets[name] for name in names if name != _API]
    shares = sum(1 / target.slow for target in chosen) + (1 / _SLOW_API if _API in names else 0)
    tried = faults = 0
    for target in chosen:
        inputs = max(1, round(options.inputs / target.slow / shares))
        done, found = (fuzz_guided if options.guided else fuzz)(target, inputs, seed, options.out)
        tried, faults = tried + done, faults + found
    grid.close()
    if _API in names:
        done, found = fuzz_api(max(1, round(options.inputs / _SLOW_API / shares)), seed, options.out)
        tried, faults = tried + done, faults + found
    print(f"{tried:,} inputs, seed {seed}: {faults} faults, {peak_bytes() / 2**20:.0f} MiB at most")
    return 1 if faults else 0


def fuzz(target: Target, inputs: int, seed: int, out: Path) -> tuple[int, int]:
    """Tries so many inputs of one target; how many were tried, and how many failed."""
    dice, faults, slowest = random.Random(f"{seed} {target.name}"), 0, 0.0
    began, told = time.process_time(), time.monotonic()
    tried = 0
    for tried in range(1, inputs + 1):
        data = target.change(dice.choice(target.samples), target.samples, dice)
        before = time.process_time()
        try:
            attempt(target, data)
        except Exception:  # noqa: BLE001  # whatever it is, it is told, and others are tried
            faults += 1
            out.mkdir(exist_ok=True)
            file = out / f"{target.name}-{seed}-{tried}"
            file.write_bytes(data)
            print(f"{target.name}: {file}\n{traceback.format_exc()}", flush=True)
            if faults == _MOST_FAULTS:
                break
        slowest = max(slowest, time.process_time() - before)
        if time.monotonic() - told > _TOLD_SECONDS:
            told = time.monotonic()
            print(f"{target.name}: {tried:,} of {inputs:,}, seed {seed}", file=sys.stderr, flush=True)
    rate = tried / max(time.process_time() - began, 1e-9)
    print(
        f"{target.name}: {tried:,} inputs, seed {seed}, {faults} faults, {rate:,.0f} a CPU second, "
        f"the slowest {slowest:.3f} s",
        flush=True,
    )
    return tried, faults


def fuzz_guided(target: Target, inputs: int, seed: int, out: Path) -> tuple[int, int]:
    """The same with inputs that are led by the code that others reached, up to the first fault."""
    began = time.monotonic()
    run = run_guided(target.name, inputs, seed, out)
    if run.faults:
        print(run.said[-4000:])
    print(
        f"{target.name}: {run.inputs:,} guided inputs, seed {seed}, {run.faults} faults, "
        f"{run.inputs / (time.monotonic() - began):,.0f} a second, "
        f"{run.branches[0]:,} branches reached at first, {run.branches[1]:,} at the end",
        flush=True,
    )
    return run.inputs, run.faults


def fuzz_api(inputs: int, seed: int, out: Path) -> tuple[int, int]:
    """The same for a grid in a process of its own, by its published document."""
    began = time.monotonic()
    run = try_api(inputs, seed, out)
    print(
        f"{_API}: {run.requests:,} requests, seed {seed}, {run.faults} faults, "
        f"{run.requests / (time.monotonic() - began):,.0f} a second, "
        f"the slowest answer {run.slowest:.3f} s of {run.slowest_of}; without success: "
        f"{', '.join(run.never_succeeded) or 'none'}",
        flush=True,
    )
    return run.requests, run.faults


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
