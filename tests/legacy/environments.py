"""The old environments, when `scripts/test --legacy` has made them and asks for the tests that need them."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

OLD_TORCH = {
    version: ROOT / ".venv-legacy" / f"torch-{version.rpartition('.')[0]}" / "bin" / "python"
    for version in ("1.7.1", "1.8.0")
}
PYSYFT = ROOT / ".venv-legacy" / "pysyft" / "bin" / "python"

wanted = pytest.mark.skipif(
    not os.environ.get("FEDPLAN_LEGACY"), reason="old runtimes are several GB: scripts/test --legacy"
)
