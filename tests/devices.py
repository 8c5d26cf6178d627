"""The devices of tests that run on all there are; those that are missing are skipped, and say so."""

import pytest
import torch

_HERE = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}

ACCELERATORS = [
    pytest.param(name, marks=[pytest.mark.gpu, pytest.mark.skipif(not here, reason=f"no {name} here")])
    for name, here in _HERE.items()
]
"""`pytest -m gpu` runs what needs one."""

DEVICES = [pytest.param("cpu"), *ACCELERATORS]
