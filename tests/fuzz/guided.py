"""The decoders under atheris: inputs that reach code which no input reached before are changed further.

`scripts/fuzz --guided` starts this module once for each target, for libFuzzer ends the process. What it finds
is told by its exit status, and the input is in a file that `scripts/fuzz --again` tries again.
"""

import dataclasses
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.target import Target

_MOST_BYTES = 64 * 1024
_MEMORY_MIB = 4096
"""Of the whole process, for libFuzzer; what one input may take is checked by `attempt`."""


@dataclasses.dataclass(frozen=True)
class GuidedRun:
    """What came of one target.

    Attributes:
        inputs: that were tried.
        faults: 0, or 1: libFuzzer stops at the first.
        branches: of fedplan's code that were reached at the begin, and at the end.
        said: what was written; the last lines tell of the fault.
    """

    inputs: int
    faults: int
    branches: tuple[int, int]
    said: str


def run_guided(name: str, inputs: int, seed: int, out: Path) -> GuidedRun:
    """Tries so many inputs of a decoder, in a process of its own.

    Args:
        name: of the target.
        inputs: how many.
        seed: which ones; nearly, for where objects lie in memory has a part in it.
        out: where an input that fails is put.
    """
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(inputs), str(seed), str(out)]
    done = subprocess.run(command, capture_output=True, check=False)
    return outcome(done.returncode, (done.stdout + done.stderr).decode(errors="replace"))


def outcome(code: int, said: str) -> GuidedRun:
    """What libFuzzer's exit status and words tell. A process that did not say that it is done has failed."""
    tried = re.findall(r"^#(\d+)", said, re.MULTILINE)
    reached = [int(number) for number in re.findall(r"\bcov: (\d+)", said)] or [0]
    finished = code == 0 and re.search(r"^#\d+\s+DONE", said, re.MULTILINE) is not None
    return GuidedRun(int(tried[-1]) if tried else 0, int(not finished), (reached[0], reached[-1]), said)


def _main(name: str, inputs: int, seed: int, out: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["fedplan"]):
        from tests.fuzz.decoders import decoders
    from tests.fuzz.target import attempt

    target: Target = next(target for target in decoders() if target.name == name)

    def changed(data: bytes, most: int, chance: int) -> bytes:
        """Half of the changes keep the form, as in the other runs; half are libFuzzer's."""
        dice = random.Random(chance)
        if dice.random() < 0.5:
            return target.change(data, target.samples, dice)[:most]
        mutated: bytes = atheris.Mutate(data, most)
        return mutated

    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for place, sample in enumerate(target.samples):
            Path(corpus, str(place)).write_bytes(sample)
        options = [
            *(corpus, f"-runs={inputs}", f"-seed={seed or 1}", f"-artifact_prefix={out}/{name}-"),
            *(f"-max_len={_MOST_BYTES}", f"-rss_limit_mb={_MEMORY_MIB}", "-timeout=60"),
        ]
        atheris.Setup([sys.argv[0], *options], lambda data: attempt(target, data), custom_mutator=changed)
        atheris.Fuzz()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
