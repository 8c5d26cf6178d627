"""The folder beside the repository with what others made; tests of it are skipped where it is missing."""

from pathlib import Path

SHARED = Path(__file__).parents[2] / "shared"

FIXTURES = SHARED / "fixtures"
"""Plans, inputs and expected outputs that PySyft 0.2.9 made."""
