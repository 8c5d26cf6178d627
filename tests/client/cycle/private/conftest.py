import pathlib
from collections.abc import Iterator

import pytest

from fedplan.plan import Plan
from tests.client.cycle.private.personal import make_plan
from tests.client.cycle.private.personal_grid import Gate, grid_behind_a_gate


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Iterator[Gate]:
    with grid_behind_a_gate(tmp_path / "grid") as gate:
        yield gate


@pytest.fixture
def url(gate: Gate) -> str:
    return gate.url


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan()
