"""The page on simulation is true: its examples run as they stand and print what it says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text()

NUMBER = re.compile(r"\d+\.?\d*")


def test_the_examples_print_what_the_page_says() -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == PAGE.count("```python") == 2
    for source, told in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(source, names)
        found = printed.getvalue()
        assert NUMBER.sub("N", found) == NUMBER.sub("N", told)
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (found, told)]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.06)  # processors differ in the last bits
