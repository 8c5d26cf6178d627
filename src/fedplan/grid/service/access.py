"""What a request key opens."""

from fedplan.errors import AccessDeniedError
from fedplan.grid.auth import is_same, key_digest
from fedplan.grid.records import Assignment
from fedplan.grid.store import participation
from fedplan.grid.store.connection import Db


async def find_place(db: Db, worker_id: str, request_key: str) -> Assignment:
    """The worker's place in a cycle.

    Raises:
        AccessDeniedError: the key was not given to this worker.
    """
    found = await participation.find_by_key(db, key_digest(request_key))
    if found is None or not is_same(worker_id, found.worker_id):
        raise AccessDeniedError("the request_key was not given to this worker_id, or was replaced by a newer")
    return found
