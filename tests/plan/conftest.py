"""The short run: of a test with very many cases, it tries every other one."""

import itertools
from typing import Any

import pytest

from tests.long import LONG

MANY = 16
"""Tests with fewer cases are small, or have each case for a reason."""


def _test_of(item: pytest.Item) -> tuple[str, str]:
    return item.nodeid.partition("::")[0], getattr(item, "originalname", item.name)


@pytest.hookimpl(trylast=True)  # of those that -k and -m leave
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves cases out; `tests.long` says how all are tried."""
    if LONG:
        return
    here = [item for item in items if item.nodeid.startswith("tests/plan/")]
    left_out: set[Any] = set()
    for _, group in itertools.groupby(here, _test_of):
        cases = list(group)
        if len(cases) >= MANY:
            left_out.update(cases[1::2])
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=list(left_out))
