"""The reference has every public name, with its signature and its documentation."""

import re

import pytest

import fedplan
from website import reference


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return reference.pages()


def entry(page: str, name: str) -> str:
    """What a page says of a name, without the members that come after it."""
    return re.split(r"^##+ `", page.split(f"## `{name}`\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_each_public_name_has_one_entry(pages: dict[str, str]) -> None:
    headings = [name for page in pages.values() for name in re.findall(r"^## `(\w+)`$", page, re.MULTILINE)]
    assert sorted(headings) == sorted(fedplan.__all__)


def test_names_stand_on_the_page_of_their_users(pages: dict[str, str]) -> None:
    assert "## `ModelCentricFLClient`\n" in pages["owner.md"]
    assert "## `participate`\n" in pages["worker.md"]
    assert "### `ConfigError`\n" in pages["errors.md"]


def test_an_entry_has_the_signature_and_what_the_docstring_says(pages: dict[str, str]) -> None:
    text = entry(pages["data.md"], "partition_iid")
    assert "partition_iid(" in text
    assert text.index("**Parameters**") < text.index("- `samples`: ") < text.index("**Returns**")


def test_a_blocking_form_and_its_coroutine_are_told_apart(pages: dict[str, str]) -> None:
    waiting, coroutine = (
        entry(pages["owner.md"], f"ModelCentricFLClient.{n}") for n in ("wait", "wait_async")
    )
    assert "- `checkpoint`: " in waiting
    assert "\nasync ModelCentricFLClient.wait_async(" in coroutine
    assert "The coroutine of `ModelCentricFLClient.wait`" in coroutine
    blocking = entry(pages["worker.md"], "Job.start_blocking")
    assert "\nJob.start_blocking(" in blocking
    assert "This is the blocking form of `Job.start`." in blocking


def test_code_of_docstrings_is_shown_as_code(pages: dict[str, str]) -> None:
    assert '```python\njob = syft.new_job("mnist", "1.0.0")\n' in entry(pages["worker.md"], "Job")
    assert not any(re.search(r"::$", page, re.MULTILINE) for page in pages.values())
