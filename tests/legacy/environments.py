"""The old environments, when `scripts/test --legacy` has made them and asks for the tests that need them."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TORCH_1_8 = ROOT / ".venv-legacy" / "torch-1.8" / "bin" / "python"
PYSYFT = ROOT / ".venv-legacy" / "pysyft" / "bin" / "python"

wanted = pytest.mark.skipif(
    not os.environ.get("FEDPLAN_LEGACY"), reason="old runtimes are several GB: scripts/test --legacy"
)
