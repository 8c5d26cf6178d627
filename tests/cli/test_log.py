import io
import logging

from fedplan.cli.log import OneLine

FORGED = "m\n2026-11-27 12:00:00 INFO fedplan.grid: all is well"


def logged(log) -> list[str]:
    """The lines of what a function logs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine("%(levelname)s %(name)s: %(message)s"))
    logger = logging.Logger("grid")
    logger.addHandler(handler)
    log(logger)
    return stream.getvalue().split("\n")[:-1]


def test_a_line_break_in_what_a_peer_sends_begins_no_entry() -> None:
    (line,) = logged(lambda logger: logger.info("'%s' is closed", FORGED))
    assert line == "INFO grid: 'm\\n2026-11-27 12:00:00 INFO fedplan.grid: all is well' is closed"


def test_the_lines_of_a_traceback_look_like_no_entry() -> None:
    def fail(logger: logging.Logger) -> None:
        try:
            raise ValueError(FORGED + "\r\x1b")
        except ValueError:
            logger.exception("a request failed")

    first, *others = logged(fail)
    assert first == "ERROR grid: a request failed"
    assert len(others) > 2
    assert all(line.startswith("    ") and line.isprintable() for line in others)
