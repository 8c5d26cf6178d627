"""The devices of tests that run on all there are; those that are missing are skipped, and say so."""

import pytest
import torch

_HERE = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}

DEVICES = [
    pytest.param(
        name,
        marks=[]
        if name == "cpu"
        else [pytest.mark.gpu, pytest.mark.skipif(not here, reason=f"no {name} here")],
    )
    for name, here in _HERE.items()
]
"""`pytest -m gpu` runs what needs an accelerator."""
