"""The rate limit of all requests to the API: rate, first response, pauses."""

from collections.abc import Sequence

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.errors import NotFound, PollError, RateLimited
from poller.sutro.rate_limit import POLLS, SCANS, RateLimiter
from tests.support.rate_limits import HALVE, HOUR, TROUBLE, a_rate_limiter, spend


def busiest(times: Sequence[float], window: float = 1.0) -> int:
    """Return the number of requests in the busiest window."""
    counts = (sum(start <= it < start + window - 1e-6 for it in times) for start in times)
    return max(counts, default=0)


# The rate.


@pytest.mark.virtual(limit=700.0)
@pytest.mark.parametrize("per_minute", [6.0, 60.0, 120.0, 600.0])
async def test_rate_is_used_and_not_exceeded(per_minute: float):
    """Over ten minutes the rate is used, and not exceeded by more than the first burst."""
    times = await spend(a_rate_limiter(per_minute), 600.0)

    assert 10 * per_minute - 1 <= len(times) <= 10 * per_minute + 1 + per_minute / 120


outcomes = st.sampled_from([None, None, None, TROUBLE, HALVE, "unused"]) | st.builds(
    RateLimited, st.just("pause"), retry_after=st.floats(0.0, 30.0)
)


@pytest.mark.virtual(limit=1e9)
@given(
    per_minute=st.floats(1.0, 1_000.0),
    script=st.lists(st.tuples(outcomes, st.floats(0.0, 3.0), st.floats(0.0, 5.0)), max_size=60),
)
async def test_rate_within_any_second(per_minute: float, script):
    """No second ever holds more than one and a half of the rate and one request."""
    rate_limiter = a_rate_limiter(per_minute)
    times: list[float] = []

    async def request(outcome, took: float) -> None:
        await anyio.sleep(took)
        rate_limiter.report(outcome, is_probe=False)

    async with anyio.create_task_group() as group:
        for outcome, took, idle in script:
            await rate_limiter.acquire()
            if outcome == "unused":
                rate_limiter.release_unused()
            else:
                times.append(anyio.current_time())
                group.start_soon(request, outcome, took)
            await anyio.sleep(idle if idle > 3.0 else 0.0)

    assert busiest(times) <= 1.5 * per_minute / 60.0 + 1


@pytest.mark.virtual(limit=60.0)
async def test_unused_token_is_returned():
    """A token that was not used can be taken again at once."""
    rate_limiter = a_rate_limiter(1.0)
    await rate_limiter.acquire()
    rate_limiter.release_unused()
    await rate_limiter.acquire()

    assert anyio.current_time() == 0.0


@pytest.mark.virtual(limit=60.0)
async def test_returned_token_wakes_a_waiter():
    """A task that waits for a token gets one that is returned."""
    rate_limiter = a_rate_limiter(1.0)
    await rate_limiter.acquire()

    async with anyio.create_task_group() as group:
        group.start_soon(rate_limiter.acquire)
        await anyio.sleep(1.0)
        rate_limiter.release_unused()

    assert anyio.current_time() == 1.0


@pytest.mark.virtual(limit=700.0)
@pytest.mark.parametrize("per_minute", [6.0, 120.0, 6_000.0])
async def test_users_of_the_rate_take_turns(per_minute: float):
    """Two users that always want the next token get half of them each, whoever waits first."""
    rate_limiter, counts = a_rate_limiter(per_minute), dict.fromkeys((SCANS, POLLS), 0)

    async def use(user: str) -> None:
        while True:
            is_probe = await rate_limiter.acquire(user)
            counts[user] += 1
            await anyio.sleep(0.01)
            rate_limiter.report(None, is_probe=is_probe)

    with anyio.move_on_after(120.0):
        async with anyio.create_task_group() as group:
            for user in counts:
                group.start_soon(use, user)

    assert counts[SCANS] == pytest.approx(counts[POLLS], abs=1, rel=0.02)
    assert sum(counts.values()) >= 2 * per_minute * 0.95


async def test_rounding_error_is_no_wait():
    """A token that lacks less than the clock can show is whole: no wait would end."""
    rate_limiter = a_rate_limiter(60.0)
    rate_limiter._tokens = 1.0 - 1e-9

    assert rate_limiter._wait(anyio.current_time()) == 0.0


# The first response.


@pytest.mark.virtual(limit=60.0)
async def test_one_request_until_the_first_response():
    """Until the API has responded once, one request is under way at a time."""
    rate_limiter = a_rate_limiter(600.0, has_answered=False)
    await rate_limiter.acquire()
    with anyio.move_on_after(30.0) as waiting:
        await rate_limiter.acquire()
    rate_limiter.report(None, is_probe=False)
    for _ in range(3):
        await rate_limiter.acquire()

    assert waiting.cancelled_caught
    assert anyio.current_time() < 31.0


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize("error", [TROUBLE, NotFound("unknown"), HALVE])
async def test_error_is_no_first_response(error: PollError):
    """An error proves nothing: the next request goes alone too."""
    rate_limiter = a_rate_limiter(600.0, has_answered=False)
    rate_limiter.report(error, is_probe=await rate_limiter.acquire())
    await rate_limiter.acquire()
    with anyio.move_on_after(30.0) as waiting:
        await rate_limiter.acquire()

    assert waiting.cancelled_caught


# Pauses.


@pytest.mark.virtual(limit=HOUR)
@pytest.mark.parametrize(("jitter", "pause"), [(0.0, 90.0), (0.5, 90.5), (0.999, 90.999)])
async def test_pause_holds_to_the_second(jitter: float, pause: float):
    """A pause holds for all requests, to the second that was asked for, never shorter."""
    rate_limiter = a_rate_limiter(600.0, jitter)
    await rate_limiter.acquire()
    rate_limiter.report(RateLimited("wait", retry_after=90.0), is_probe=False)
    rate_limiter._in_flight += 1
    rate_limiter.report(RateLimited("wait", retry_after=10.0), is_probe=False)
    await rate_limiter.acquire()

    assert anyio.current_time() == pytest.approx(pause)


@pytest.mark.virtual(limit=HOUR)
async def test_pause_holds_a_waiter():
    """A pause that begins while a task waits for a token holds that one too."""
    rate_limiter = a_rate_limiter(6.0)
    await rate_limiter.acquire()

    async with anyio.create_task_group() as group:
        group.start_soon(rate_limiter.acquire)
        await anyio.sleep(9.0)
        rate_limiter.report(RateLimited("wait", retry_after=60.0), is_probe=False)

    assert anyio.current_time() == pytest.approx(69.0)


@pytest.mark.virtual(limit=HOUR)
async def test_429_without_retry_after_halves_the_rate():
    """Without Retry-After the next request comes at half the rate."""
    rate_limiter = a_rate_limiter(60.0)
    await spend(rate_limiter, 10.5)
    await rate_limiter.acquire()
    began = anyio.current_time()
    rate_limiter.report(HALVE, is_probe=False)
    times = [anyio.current_time() - began async for _ in _turns(rate_limiter, 3)]

    assert times == [pytest.approx(it, abs=0.1) for it in (2.0, 4.0, 6.0)]


async def _turns(rate_limiter: RateLimiter, count: int):
    for _ in range(count):
        yield rate_limiter.report(None, is_probe=await rate_limiter.acquire())


@pytest.mark.virtual(limit=HOUR)
@pytest.mark.parametrize("per_minute", [6.0, 12.0, 60.0, 600.0])
@pytest.mark.parametrize("halvings", [1, 6, 50])
async def test_halved_rate_recovers(per_minute: float, halvings: int):
    """Five minutes after a 429 the rate is whole again, however low it had fallen."""
    rate_limiter = a_rate_limiter(per_minute)
    for _ in range(halvings):
        rate_limiter._in_flight += 1
        rate_limiter.report(HALVE, is_probe=False)
    await spend(rate_limiter, 300.0)
    times = await spend(rate_limiter, 60.0)

    assert per_minute - 1 <= len(times) <= per_minute * 1.01 + 1


@pytest.mark.virtual(limit=HOUR)
async def test_low_rate_does_not_wait_for_the_whole_recovery():
    """At a low rate that has fallen far, the next request does not wait for the whole recovery."""
    rate_limiter = a_rate_limiter(6.0)
    for _ in range(6):
        rate_limiter._in_flight += 1
        rate_limiter.report(HALVE, is_probe=False)
    await rate_limiter.acquire()

    assert anyio.current_time() < 100.0
