"""The tally of what became of the random steps, told at the end of a run."""

from collections import Counter
from collections.abc import Iterator

import pytest

TALLY = "layers: "


@pytest.fixture
def tally(record_property: "pytest.RecordProperty") -> Iterator[Counter[str]]:
    """Counts outcomes; what a test counts is added up over all tests and told at the end."""
    counts: Counter[str] = Counter()
    yield counts
    for outcome, count in counts.items():
        record_property(TALLY + outcome, count)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tells the tally. Properties of reports come from all processes of pytest-xdist."""
    total: Counter[str] = Counter()
    for report in [r for reports in terminalreporter.stats.values() for r in reports]:
        for name, count in getattr(report, "user_properties", ()):
            if name.startswith(TALLY) and report.when == "teardown":
                total[name.removeprefix(TALLY)] += count
    if total:
        terminalreporter.write_line(TALLY + ", ".join(f"{n} {outcome}" for outcome, n in total.most_common()))
