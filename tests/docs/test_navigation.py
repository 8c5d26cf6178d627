"""The site's navigation names every page of the docs, once, and no other."""

from tests.docs.pages import DOCS, ROOT
from website import pages, reference

NAMED = pages.navigation()


def test_it_names_each_page_and_notebook_of_the_docs_once() -> None:
    there = [page.relative_to(ROOT) for kind in ("*.md", "*.ipynb") for page in DOCS.rglob(kind)]
    named = [page for page in NAMED if page.startswith("docs/") and not page.startswith(pages.GENERATED)]
    assert sorted(named) == sorted(page.with_suffix(".md").as_posix() for page in there)


def test_it_names_each_page_that_is_made_from_docstrings_once() -> None:
    generated = [page for page in NAMED if page.startswith(pages.GENERATED)]
    assert sorted(generated) == sorted(f"{pages.GENERATED}{area}.md" for area in reference.AREAS)


def test_it_names_other_pages_of_the_repository_that_are_there() -> None:
    others = [page for page in NAMED if not page.startswith("docs/")]
    assert len(set(others)) == len(others)
    assert "README.md" in others
    assert [page for page in others if not pages.source(page).exists()] == []
