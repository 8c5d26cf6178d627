"""What commands print of a grid's or a file's words."""

import json

import pytest

from fedplan.cli.terminal import echo, print_json, print_table

TITLE = "\x1b]0;owned\x07"
"""Names the window of a terminal that obeys."""


def test_a_text_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"loss {TITLE}\nis 模型\r", err=True)
    assert capsys.readouterr().err == "loss \\x1b]0;owned\\x07\nis 模型\\r\n"


def test_nor_can_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", TITLE], [["[red]m[/red]", TITLE]])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert shown.count("\\x1b]0;owned\\x07") == 2
    assert "[red]m[/red]" in shown


def test_json_has_null_for_what_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("nan"), "rows": [float("inf"), {"a": -float("inf")}, (1.5, "x", None, True)]})
    assert json.loads(capsys.readouterr().out) == {
        "loss": None,
        "rows": [None, {"a": None}, [1.5, "x", None, True]],
    }
