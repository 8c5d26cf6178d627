"""Pages of the docs, taken apart."""

import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its title if it has one, and its text."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks that begin at the left margin, in the order of the page."""
    found = re.findall(
        r'^```(\w*)(?: title="([^"]*)")?\n(.*?)^```$', page.read_text(), re.DOTALL | re.MULTILINE
    )
    return [Block(*each) for each in found]
