"""The gate that a rejected API key closes."""

from itertools import pairwise

import anyio
import pytest

from poller.core.errors import (
    MalformedResponse,
    NotFound,
    PollError,
    RateLimited,
    Rejected,
    ResponseTooLarge,
    Unauthorized,
    WrongEndpoint,
)
from poller.sutro.rate_limit import AuthGate
from tests.support.rate_limits import (
    HALVE,
    HOUR,
    JOB_FORBIDDEN,
    KEY_REJECTED,
    PAGE,
    TROUBLE,
    a_rate_limiter,
    spend,
)


@pytest.mark.virtual(limit=3 * HOUR)
@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (KEY_REJECTED, [15, 30, 60, 120, 300, 600, 900, 900, 900]),
        (JOB_FORBIDDEN, [0, 30, 60, 120, 300, 600, 900, 900, 900]),
        (PAGE, [0, 30, 60, 120, 300, 600, 900, 900, 900]),
    ],
)
async def test_gate_probe_delays(error: PollError, waits: list[float]):
    """A rejection or a page of a proxy is probed at growing delays, at last every 15 minutes."""
    times = await spend(a_rate_limiter(600.0), 2 * HOUR, error)

    seen = [after - before for before, after in pairwise(times[:10])]
    assert seen == [pytest.approx(wait, abs=0.2) for wait in waits]


@pytest.mark.virtual(limit=3 * HOUR)
@pytest.mark.parametrize("error", [KEY_REJECTED, JOB_FORBIDDEN])
@pytest.mark.parametrize("under_way", [1, 16])
async def test_gate_first_hour_costs_few_requests(error: Unauthorized, under_way: int):
    """In the first hour a rejected key costs the requests under way and eight more."""
    rate_limiter = a_rate_limiter(60_000.0)
    for _ in range(under_way):
        await rate_limiter.acquire()
    for _ in range(under_way):
        rate_limiter.report(error, is_probe=False)

    assert len(await spend(rate_limiter, HOUR, error)) == 8


@pytest.mark.virtual(limit=3 * HOUR)
async def test_gate_allows_one_probe_at_a_time():
    """While a probe is under way, no other request is sent, however long it takes."""
    rate_limiter = a_rate_limiter(600.0)
    rate_limiter.report(KEY_REJECTED, is_probe=await rate_limiter.acquire())
    is_probe = await rate_limiter.acquire()
    with anyio.move_on_after(HOUR) as waiting:
        await rate_limiter.acquire()

    assert is_probe
    assert waiting.cancelled_caught


@pytest.mark.virtual(limit=HOUR)
@pytest.mark.parametrize("error", [KEY_REJECTED, JOB_FORBIDDEN])
async def test_gate_confirms_a_rejection_by_a_probe(error: Unauthorized):
    """A key counts as rejected once a probe has confirmed it, not before."""
    rate_limiter = a_rate_limiter()
    rate_limiter.report(error, is_probe=await rate_limiter.acquire())
    at_first = rate_limiter.gate.is_rejected
    rate_limiter.report(error, is_probe=await rate_limiter.acquire())

    assert (at_first, rate_limiter.gate.is_rejected) == (False, True)


@pytest.mark.virtual(limit=2 * HOUR)
async def test_gate_behind_a_page_is_not_confirmed_by_one_job():
    """After the page of a proxy, the rejection of one job needs a second one beside it."""
    rate_limiter, rejected = a_rate_limiter(6_000.0), []
    for error in (PAGE, JOB_FORBIDDEN, PAGE, JOB_FORBIDDEN, JOB_FORBIDDEN):
        is_probe = await rate_limiter.acquire()
        rate_limiter.report(error, is_probe=is_probe)
        rejected.append(rate_limiter.gate.is_rejected)

    assert rejected == [False, False, False, False, True]


@pytest.mark.virtual(limit=2 * HOUR)
async def test_gate_is_confirmed_by_no_page():
    """However often a proxy answers with a page, the key does not count as rejected."""
    rate_limiter = a_rate_limiter(600.0)
    await spend(rate_limiter, HOUR, PAGE)
    closed = rate_limiter.gate.opens_at
    rate_limiter.report(KEY_REJECTED, is_probe=await rate_limiter.acquire())

    assert closed
    assert rate_limiter.gate.is_rejected


@pytest.mark.virtual(limit=HOUR)
@pytest.mark.parametrize("proof", [None, NotFound("unknown"), ResponseTooLarge("over the cap")])
async def test_gate_opens_after_a_successful_probe(proof: PollError | None):
    """The first response of the API to a probe allows all requests again, also its own 404."""
    rate_limiter = a_rate_limiter(600.0)
    await spend(rate_limiter, 50.0, KEY_REJECTED)
    rate_limiter.report(proof, is_probe=await rate_limiter.acquire())
    began = anyio.current_time()
    trials = [await rate_limiter.acquire() for _ in range(5)]

    assert rate_limiter.gate == AuthGate()
    assert rate_limiter.is_key_accepted
    assert trials == [False] * 5
    assert anyio.current_time() - began < 1.0


@pytest.mark.virtual(limit=3 * HOUR)
@pytest.mark.parametrize(
    "error",
    [TROUBLE, HALVE, MalformedResponse("no job"), Rejected("422"), WrongEndpoint("302")],
    ids=lambda error: type(error).__name__,
)
async def test_gate_repeats_a_failed_probe(error: PollError):
    """A probe that says nothing about the key is repeated after the backoff, a minute at most.

    The delay after the next rejection is that of the probe that failed.
    """
    rate_limiter = a_rate_limiter(600.0)
    rate_limiter.report(KEY_REJECTED, is_probe=await rate_limiter.acquire())
    times = await spend(rate_limiter, HOUR, error)
    is_rejected, is_probe = rate_limiter.gate.is_rejected, await rate_limiter.acquire()
    rate_limiter.report(KEY_REJECTED, is_probe=is_probe)
    began = anyio.current_time()
    await rate_limiter.acquire()

    assert (is_rejected, is_probe) == (False, True)
    assert [after - before for before, after in pairwise(times[:7])] == [
        pytest.approx(wait, abs=0.2) for wait in (1, 2, 4, 8, 16, 32)
    ]
    assert max(after - before for before, after in pairwise(times)) < 61.0
    assert anyio.current_time() - began == pytest.approx(30.0, abs=0.2)


@pytest.mark.virtual(limit=HOUR)
@pytest.mark.parametrize("late", [KEY_REJECTED, JOB_FORBIDDEN, None, TROUBLE])
async def test_gate_ignores_requests_under_way(late: PollError | None):
    """Requests under way when the gate closed neither open it nor delay the probe."""
    rate_limiter = a_rate_limiter(600.0)
    await rate_limiter.acquire()
    await rate_limiter.acquire()
    rate_limiter.report(KEY_REJECTED, is_probe=False)
    await anyio.sleep(10.0)
    rate_limiter.report(late, is_probe=False)
    is_probe = await rate_limiter.acquire()

    assert is_probe
    assert anyio.current_time() == pytest.approx(15.1)


@pytest.mark.virtual(limit=HOUR)
async def test_gate_probe_waits_for_a_pause():
    """A probe respects the pause that the API asked for."""
    rate_limiter = a_rate_limiter(600.0)
    rate_limiter.report(KEY_REJECTED, is_probe=await rate_limiter.acquire())
    rate_limiter.report(
        RateLimited("wait", retry_after=500.0), is_probe=await rate_limiter.acquire()
    )
    await rate_limiter.acquire()

    assert anyio.current_time() == pytest.approx(515.0)


@pytest.mark.virtual(limit=HOUR)
async def test_gate_probe_on_request():
    """An operator who replaced the key need not wait for the next probe."""
    rate_limiter = a_rate_limiter(600.0)
    rate_limiter.retry()
    await spend(rate_limiter, 300.0, KEY_REJECTED)

    async with anyio.create_task_group() as group:
        group.start_soon(rate_limiter.acquire)
        await anyio.sleep(1.0)
        rate_limiter.retry()

    assert anyio.current_time() == 301.0
