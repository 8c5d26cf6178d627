"""The databases of the store's tests: SQLite, and a PostgreSQL of their own where it is installed."""

import pytest

from tests.grid.databases import SERVER, database_of, only_sqlite
from tests.grid.postgresql import cluster, needs_postgresql


@pytest.fixture(scope="session")
def postgresql():
    """A server for all tests of this folder."""
    with cluster() as made:
        yield made


@pytest.fixture(params=["default", pytest.param("postgresql", marks=needs_postgresql)])
async def url(request, tmp_path):
    """An empty database."""
    if request.param == "default":
        return await database_of(tmp_path)
    if SERVER is not None:
        pytest.skip("all tests run on another PostgreSQL")
    if only_sqlite.mark in request.node.iter_markers():
        pytest.skip("about SQLite")
    return await database_of(tmp_path, request.getfixturevalue("postgresql").url)
