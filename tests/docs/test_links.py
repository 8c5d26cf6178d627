"""Links of the pages lead somewhere: to a file of the repository, and to a heading of it."""

import json
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from website import links

PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in [
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "benchmarks", "examples") for page in (ROOT / folder).rglob("*.md")),
    ]
    if "node_modules" not in page.parts
)
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def test_links_of_pages_lead_somewhere() -> None:
    faults = {page: links.broken(ROOT / page, ROOT) for page in PAGES}
    assert {page: broken for page, broken in faults.items() if broken} == {}
    assert sum(len(links.links((ROOT / page).read_text())) for page in PAGES) > 100


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_notebooks_lead_somewhere(notebook: Path, tmp_path: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert links.links(text)
    assert links.broken_in(text, notebook, ROOT) == []
