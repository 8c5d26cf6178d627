"""A notebook as a page: texts, code and what was printed stand in their order, pictures are left out."""

import json
from pathlib import Path
from typing import Any

from website import notebooks


def cell(kind: str, source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": kind, "source": source.splitlines(keepends=True), "outputs": list(outputs)}


def test_a_notebook_is_a_page(tmp_path: Path) -> None:
    notebook = tmp_path / "some.ipynb"
    cells = [
        cell("markdown", "# Title\n\nFirst words."),
        cell("code", "print(1)\nx", {"text": ["1\n"]}, {"data": {"text/plain": ["2"]}}),
        cell("code", "plot()", {"data": {"image/png": "AAAA", "text/plain": ["<Axes>"]}}),
        cell("markdown", "## Last\n[more](other.md)"),
    ]
    notebook.write_text(json.dumps({"cells": cells}))
    note = "This page is a notebook; [the file](some.ipynb) runs in Jupyter and has its pictures."
    assert notebooks.page(notebook) == (
        f"# Title\n\n{note}\n\nFirst words.\n\n"
        "```python\nprint(1)\nx\n```\n\n```text\n1\n2\n```\n\n"
        "```python\nplot()\n```\n\n## Last\n[more](other.md)\n"
    )
