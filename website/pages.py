"""Which pages the site has, and how they are put together before it is built.

The pages stand in their places below one folder, so links between them hold as they do in the repository.
"""

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from website import links, notebooks, reference

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "zensical.toml"
PAGES = ROOT / "build" / "docs" / "pages"
SITE = ROOT / "build" / "docs" / "site"
GENERATED = "docs/api/"
"""Where the pages of the reference are that are made from docstrings."""


def navigation() -> list[str]:
    """The pages that the configuration names, in its order, as paths from the root of the repository."""
    return list(_paths(tomllib.loads(CONFIG.read_text())["project"]["nav"]))


def _paths(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for child in entry.values() if isinstance(entry, dict) else entry:
            yield from _paths(child)


def source(page: str) -> Path:
    """The file that a page of the navigation is made from: itself, or the notebook of its name."""
    notebook = (ROOT / page).with_suffix(".ipynb")
    return notebook if notebook.exists() else ROOT / page


def gather() -> None:
    """Puts all pages into `PAGES`, with the files that they link to and show."""
    shutil.rmtree(PAGES, ignore_errors=True)
    made = reference.pages()
    for page in navigation():
        there = PAGES / page
        there.parent.mkdir(parents=True, exist_ok=True)
        text = made[page.removeprefix(GENERATED)] if page.startswith(GENERATED) else _text(page)
        there.write_text(text)
        _copy_linked(page, text)


def _text(page: str) -> str:
    found = source(page)
    text = notebooks.page(found) if found.suffix == ".ipynb" else found.read_text()
    for link in links.links(text):
        if link.endswith(".ipynb") and "/" in link:
            text = text.replace(f"]({link})", f"]({link.removesuffix('.ipynb')}.md)")
    return text


def _copy_linked(page: str, text: str) -> None:
    for link in links.links(text):
        name = link.partition("#")[0]
        found = (ROOT / page).parent / name
        if name and found.suffix != ".md" and found.is_file():
            there = PAGES / found.resolve().relative_to(ROOT)
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, there)
