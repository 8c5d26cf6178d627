"""Runs archives under an old torch: Python 3.8 and torch 1.7 or 1.8, which know nothing of fedplan.

    python run_archives.py FOLDER

Each folder in FOLDER holds ``archive.pt``, ``arguments.npz`` and ``expected.npz`` with the Plan's flat
arguments and outputs, and ``places.json`` with the places of the arguments that `forward` takes: a number for
a tensor, a list for a list of tensors. ``seed.json`` is there if it draws random numbers: with this seed it
gives the outputs, and without one other outputs each time. What came out of each is printed as one JSON
object, by folder.
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import torch

RUNS = 3
"""TorchScript looks at a module's first runs, and runs another program from then on."""

TOLERANCE = 1e-5


def tensors(path):
    with np.load(str(path)) as arrays:
        return [torch.from_numpy(arrays["arr_%d" % i]) for i in range(len(arrays.files))]


def compare(ours, theirs):
    """The largest difference of two tensors; raises ValueError when they are not the same to 1e-5."""
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        raise ValueError("%s %s instead of %s %s" % (ours.dtype, ours.shape, theirs.dtype, theirs.shape))
    ours, theirs = ours.double(), theirs.double()
    if not torch.allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
        raise ValueError("%s instead of %s" % (ours, theirs))
    apart = (ours - theirs).abs()
    apart = apart[~torch.isnan(apart)]  # infinite or undefined in both
    return apart.max().item() if apart.numel() else 0.0


def run(folder):
    module = torch.jit.load(str(folder / "archive.pt"))
    flat = tensors(folder / "arguments.npz")
    expected = tensors(folder / "expected.npz")
    places = json.loads((folder / "places.json").read_text())
    arguments = [[flat[i] for i in place] if isinstance(place, list) else flat[place] for place in places]
    seed = folder / "seed.json"
    worst = 0.0
    for _ in range(RUNS):
        if seed.exists():
            torch.manual_seed(json.loads(seed.read_text()))
        with torch.no_grad():
            outputs = module(*arguments)
        if len(outputs) != len(expected):
            raise ValueError("%d outputs instead of %d" % (len(outputs), len(expected)))
        worst = max([worst, *map(compare, outputs, expected)])
    if seed.exists():
        with torch.no_grad():
            again = module(*arguments)
        if all(map(torch.equal, outputs, again)):
            raise ValueError("it draws the same numbers twice")
    return worst


def main():
    warnings.simplefilter("ignore")
    results = {}
    for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
        try:
            results[folder.name] = {"difference": run(folder)}
        except (RuntimeError, ValueError, torch.jit.Error) as error:
            results[folder.name] = {"error": str(error)}
    print(json.dumps({"torch": torch.__version__, "results": results}))


if __name__ == "__main__":
    main()
