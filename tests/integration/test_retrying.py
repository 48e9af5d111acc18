"""Retries while the store is unavailable."""

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import StoreLocked, StoreUnavailable
from poller.runtime.log_throttle import LogThrottle
from poller.runtime.retrying import log_store_error, until_available

pytestmark = pytest.mark.virtual


async def test_until_available_retries_until_the_store_works():
    """Each failure is reported, then the call is made again, and its result is returned."""
    errors, beats, outcomes = [], [], [StoreUnavailable("disk full"), StoreUnavailable("busy"), 7]

    async def call() -> int:
        match outcomes.pop(0):
            case int(result):
                return result
            case error:
                raise error

    result = await until_available(
        call, on_error=errors.append, interval=2.0, beat=lambda: beats.append(anyio.current_time())
    )

    assert result == 7
    assert [str(error) for error in errors] == ["disk full", "busy"]
    assert beats == [0.0, 2.0, 4.0]


async def test_until_available_raises_what_no_retry_can_help():
    """Any other error ends the retries."""

    async def call() -> None:
        raise StoreLocked

    with pytest.raises(StoreLocked):
        await until_available(call, on_error=lambda _error: None)


def test_store_error_is_logged_on_its_1st_2nd_and_4th_occurrence():
    """A failure that repeats is logged less and less often, with the keys of the caller."""
    throttle = LogThrottle(lambda: 0.0)
    with capture_logs() as logs:
        for _ in range(5):
            log_store_error(throttle, StoreUnavailable("disk full"), sink="log")

    assert [entry["occurrences"] for entry in logs] == [1, 2, 4]
    assert logs[0] == {
        "event": "store.unavailable",
        "log_level": "error",
        "sink": "log",
        "error": "disk full",
        "occurrences": 1,
    }
