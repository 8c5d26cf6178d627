"""Texts of others, as they may stand in a terminal or a log."""

from fedplan.text import did_you_mean, escaped, escaped_lines, nearest


def test_what_is_not_printed_is_escaped_and_all_else_is_not() -> None:
    assert escaped("Größe 模型 🙂") == "Größe 模型 🙂"
    assert escaped("a\r\x1b[31m\u2028\u202e\x85\ud800b\n") == "a\\r\\x1b[31m\\u2028\\u202e\\x85\\ud800b\\n"


def test_line_breaks_may_stay() -> None:
    assert escaped_lines("a\n\x1bb\n") == "a\n\\x1bb\n"


def test_a_misspelt_name_has_a_nearest_one() -> None:
    known = ["participate", "Plan", "plot_partition"]
    assert nearest("participat", known) == "participate"
    assert nearest("PARTICIPATE", known) == "participate"
    assert nearest("plan", known) == "Plan"
    assert nearest("zebra", known) is None
    assert did_you_mean("pln", known) == "; did you mean 'Plan'?"
    assert did_you_mean("zebra", known) == "."
