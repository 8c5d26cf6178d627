import asyncio
import logging
import sqlite3

import pytest
from obstore.exceptions import BaseError as StorageError
from sqlalchemy.exc import OperationalError

from fedplan import errors
from fedplan.grid.web.replies import INTERNAL_ERROR, STATUS, STORAGE_FAULT, outcome, refusal
from fedplan.wire.messages import ErrorReply, Success


def test_every_error_of_the_grid_has_a_status():
    assert set(errors.GridError.__subclasses__()) <= set(STATUS)


@pytest.mark.parametrize(("kind", "status"), STATUS.items())
def test_the_message_of_a_listed_error_is_for_the_peer(kind, status):
    assert refusal(kind("what to do")) == (status, ErrorReply(error="what to do"))


@pytest.mark.parametrize("error", [ValueError("secret"), errors.AggregationError("secret")])
def test_the_message_of_any_other_error_is_for_the_log(error, caplog):
    assert refusal(error) == (500, ErrorReply(error=INTERNAL_ERROR))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info[1] is error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (
            OperationalError("INSERT INTO reports", {}, sqlite3.OperationalError("database or disk is full")),
            "OperationalError: database or disk is full",
        ),
        (StorageError("timed out\n\nDebug source:\nGeneric {"), "BaseError: timed out"),
    ],
)
def test_a_fault_of_the_storage_is_one_line_of_the_log(error, line, caplog):
    assert refusal(error) == (503, ErrorReply(error=STORAGE_FAULT))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is None
    assert record.getMessage() == f"a request failed: {line}"


async def test_the_outcome_of_work_is_its_result_or_a_refusal():
    async def work(error=None):
        if error:
            raise error
        return Success()

    assert await outcome(work()) == Success()
    assert await outcome(work(errors.NotFoundError("gone"))) == (404, ErrorReply(error="gone"))


async def test_cancelled_work_stays_cancelled():
    async def work():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await outcome(work())
