import pytest

from fedplan.client.transport.exchange import GridAnswer, GridRequest, Retry, RetryingTransport, may_repeat
from fedplan.errors import GridConnectionError, GridResponseError, GridTimeoutError, WorkerError

GET = GridRequest("model-centric/get-model", {}, "GET", "bytes", idempotent=True)
REPORT = GridRequest("model-centric/report", {"diff": "x", "request_key": "secret"})


class Failing:
    """A transport that fails a few times."""

    def __init__(self, *errors: WorkerError) -> None:
        self.errors = list(errors)
        self.sent = 0

    async def send(self, request: GridRequest) -> GridAnswer:
        self.sent += 1
        if self.errors:
            raise self.errors.pop(0)
        return GridAnswer({"status": "success"})

    async def aclose(self) -> None:
        self.sent = -1


def fast(attempts: int = 3) -> Retry:
    return Retry(attempts=attempts, first_wait=0.001)


@pytest.mark.parametrize(
    ("error", "get", "report"),
    [
        (GridConnectionError("", sent=True), True, False),
        (GridConnectionError("", sent=False), True, True),
        (GridTimeoutError("", sent=True), True, False),
        (GridResponseError("", status=503), True, False),
        (GridResponseError("", status=503, retry_after=1), True, True),
        (GridResponseError("", status=429), True, False),
        (GridResponseError("", status=400), False, False),
        (GridResponseError("", status=500), False, False),
        (GridResponseError("", status=409, retry_after=1), False, False),
        (GridResponseError(""), False, False),
        (GridResponseError("", status=200), False, False),
        (GridResponseError("", status=200, damaged=True), True, False),
    ],
)
def test_what_may_be_sent_again(
    error: GridConnectionError | GridResponseError, get: bool, report: bool
) -> None:
    assert may_repeat(GET, error) == get
    assert may_repeat(REPORT, error) == report


async def test_a_call_is_repeated_until_it_works() -> None:
    inner = Failing(GridConnectionError(""), GridTimeoutError(""))
    answer = await RetryingTransport(inner, fast()).send(GET)
    assert answer.data == {"status": "success"}
    assert inner.sent == 3


async def test_the_last_failure_is_raised() -> None:
    inner = Failing(*(GridConnectionError(str(i)) for i in range(9)))
    with pytest.raises(GridConnectionError, match="2"):
        await RetryingTransport(inner, fast()).send(GET)
    assert inner.sent == 3


async def test_a_report_that_may_have_arrived_is_not_sent_again() -> None:
    inner = Failing(GridConnectionError("", sent=True))
    with pytest.raises(GridConnectionError):
        await RetryingTransport(inner, fast()).send(REPORT)
    assert inner.sent == 1


async def test_closing_reaches_the_inner_transport() -> None:
    inner = Failing()
    await RetryingTransport(inner, fast()).aclose()
    assert inner.sent == -1


def test_waits_grow_are_random_and_have_an_end() -> None:
    retry = Retry(attempts=10, first_wait=1.0, longest_wait=5.0)
    error = GridConnectionError("")
    for failures, most in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (9, 5.0)):
        waits = [retry.wait(failures, error) or 0.0 for _ in range(200)]
        assert 0.5 * most < max(waits) <= most
        assert min(waits) < 0.5 * most
    assert retry.wait(10, error) is None


def test_a_wait_that_the_grid_names_is_kept_unless_it_is_too_long() -> None:
    retry = Retry(longest_wait=5.0)
    assert retry.wait(1, GridResponseError("", status=503, retry_after=3.0)) == 3.0
    assert retry.wait(1, GridResponseError("", status=503, retry_after=6.0)) is None


def test_a_request_does_not_show_its_data() -> None:
    assert "secret" not in repr(REPORT)
