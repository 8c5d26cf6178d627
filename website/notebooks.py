"""A notebook as a page: its texts, its code, and what the code printed."""

import json
from pathlib import Path
from typing import Any


def page(notebook: Path) -> str:
    """The Markdown of a notebook. Pictures are left out: the file itself has them."""
    cells = json.loads(notebook.read_text())["cells"]
    note = f"This page is a notebook; [the file]({notebook.name}) runs in Jupyter and has its pictures.\n"
    title, *others = [part for cell in cells for part in _parts(cell)]
    heading, _, text = title.partition("\n")
    return "\n".join([heading, "", note, text.strip(), "", *others]).replace(".ipynb#", ".md#")


def _parts(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [f"{source}\n"]
    printed = "".join(_printed(output) for output in cell["outputs"])
    return [f"```python\n{source}\n```\n", *([f"```text\n{printed.rstrip()}\n```\n"] if printed else [])]


def _printed(output: dict[str, Any]) -> str:
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    is_picture = any(kind.startswith("image/") for kind in output.get("data", {}))
    return "" if is_picture else "".join(text)
