"""docs/models.md says what is so: every name has a row, and rows that are tried again come out the same.

Where this fails, something becomes a Plan now that did not, or the other way round: `scripts/models` writes
the page anew.
"""

import warnings

import pytest

from tests.plan.layers.models_page import PAGE, page, rows_of
from tests.plan.layers.survey import TABLES

TEXT = PAGE.read_text()
WRITTEN = rows_of(TEXT)
ROWS = [(heading, name) for heading, (_, names, _) in TABLES.items() for name in names]


@pytest.mark.parametrize("heading", TABLES)
def test_every_layer_loss_and_optimizer_has_a_row(heading: str) -> None:
    assert list(WRITTEN[heading]) == TABLES[heading][1]


@pytest.mark.some(240)
@pytest.mark.parametrize(("heading", "name"), ROWS)
def test_a_row_is_what_is_found_out(heading: str, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about options
        assert WRITTEN[heading][name] == TABLES[heading][2](name)


def test_the_page_is_written_as_it_is_read() -> None:
    assert page(WRITTEN) == TEXT
