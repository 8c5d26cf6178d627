"""What a request key opens."""

from fedplan.errors import AccessDeniedError
from fedplan.grid.identity.auth import is_same, key_digest
from fedplan.grid.records import Assignment, Cycle
from fedplan.grid.store import participation
from fedplan.grid.store.connection import Db


async def find_place(db: Db, worker_id: str, request_key: str) -> tuple[Assignment, Cycle]:
    """The worker's place, and the cycle that it is in.

    Raises:
        AccessDeniedError: the key was not given to this worker.
    """
    found = await participation.find_by_key(db, key_digest(request_key))
    if found is None or not is_same(worker_id, found[0].worker_id):
        raise AccessDeniedError("the request_key was not given to this worker_id, or was replaced by a newer")
    return found
