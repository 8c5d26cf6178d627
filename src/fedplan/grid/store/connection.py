"""What the queries need of a connection; SQLAlchemy's own AsyncConnection, for PostgreSQL, has it too."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Dialect, Executable
from sqlalchemy.engine import CursorResult, ScalarResult

_T = TypeVar("_T")


class Db(Protocol):
    """A connection to the store's database, inside a transaction or for reading."""

    @property
    def dialect(self) -> Dialect:
        """Which SQL the database speaks."""

    async def execute(self, statement: Executable, parameters: Any = None, /) -> CursorResult[Any]:
        """Runs a statement; take what it returns before the next one runs."""

    async def scalar(self, statement: Executable, parameters: Any = None, /) -> Any:
        """The first column of the first row; None when there is none."""

    async def scalars(self, statement: Executable, parameters: Any = None, /) -> ScalarResult[Any]:
        """The first column of every row."""

    async def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> CursorResult[Any]:
        """Runs a statement in the database's own SQL."""

    async def run_sync(self, work: Callable[[Connection], _T], /) -> _T:
        """Lets something that is not asynchronous use the connection."""
