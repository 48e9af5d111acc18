"""The gate that a refused key closes."""

from itertools import pairwise

import anyio
import pytest

from poller.core.errors import NotFound, PollError, RateLimited, Unauthorized
from poller.sutro.rate_limit import AuthGate
from tests.support.rate_limits import (
    HALVE,
    HOUR,
    JOB_REFUSED,
    KEY_REFUSED,
    TROUBLE,
    a_budget,
    spend,
)


@pytest.mark.virtual(limit=3 * HOUR)
@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (KEY_REFUSED, [15, 30, 60, 120, 300, 600, 900, 900, 900]),
        (JOB_REFUSED, [0, 30, 60, 120, 300, 600, 900, 900, 900]),
    ],
)
async def test_trials_of_a_refused_key(error: Unauthorized, waits: list[float]):
    """A 401 and a 403 are tried again at growing waits, at last every quarter of an hour."""
    times = await spend(a_budget(600.0), 2 * HOUR, error)

    seen = [after - before for before, after in pairwise(times[:10])]
    assert seen == [pytest.approx(wait, abs=0.2) for wait in waits]


@pytest.mark.virtual(limit=3 * HOUR)
@pytest.mark.parametrize("error", [KEY_REFUSED, JOB_REFUSED])
@pytest.mark.parametrize("under_way", [1, 16])
async def test_first_hour_of_a_refused_key(error: Unauthorized, under_way: int):
    """In the first hour a refused key costs the requests under way and eight more."""
    rate_limiter = a_budget(60_000.0)
    for _ in range(under_way):
        await rate_limiter.acquire()
    for _ in range(under_way):
        rate_limiter.report(error, is_probe=False)

    assert len(await spend(rate_limiter, HOUR, error)) == 8


@pytest.mark.virtual(limit=3 * HOUR)
async def test_one_trial_at_a_time():
    """While a trial is under way, nobody else may go, however long it takes."""
    rate_limiter = a_budget(600.0)
    rate_limiter.report(KEY_REFUSED, is_probe=await rate_limiter.acquire())
    is_probe = await rate_limiter.acquire()
    with anyio.move_on_after(HOUR) as waiting:
        await rate_limiter.acquire()

    assert is_probe
    assert waiting.cancelled_caught


@pytest.mark.virtual(limit=HOUR)
@pytest.mark.parametrize("error", [KEY_REFUSED, JOB_REFUSED])
async def test_refusal_is_believed_at_the_second(error: Unauthorized):
    """A key counts as refused once a trial has confirmed it, not before."""
    rate_limiter = a_budget()
    rate_limiter.report(error, is_probe=await rate_limiter.acquire())
    at_first = rate_limiter.gate.is_rejected
    rate_limiter.report(error, is_probe=await rate_limiter.acquire())

    assert (at_first, rate_limiter.gate.is_rejected) == (False, True)


@pytest.mark.virtual(limit=HOUR)
async def test_trial_that_is_answered_opens_the_gate():
    """The first answer to a trial lets all requests through again."""
    rate_limiter = a_budget(600.0)
    await spend(rate_limiter, 50.0, KEY_REFUSED)
    rate_limiter.report(None, is_probe=await rate_limiter.acquire())
    began = anyio.current_time()
    trials = [await rate_limiter.acquire() for _ in range(5)]

    assert rate_limiter.gate == AuthGate()
    assert trials == [False] * 5
    assert anyio.current_time() - began < 1.0


@pytest.mark.virtual(limit=HOUR)
@pytest.mark.parametrize("error", [TROUBLE, NotFound("unknown"), HALVE])
async def test_trial_that_tells_nothing(error: PollError):
    """A trial that tells nothing of the key leaves the gate closed, and the next waits longer."""
    rate_limiter = a_budget(600.0)
    rate_limiter.report(KEY_REFUSED, is_probe=await rate_limiter.acquire())
    rate_limiter.report(error, is_probe=await rate_limiter.acquire())
    began = anyio.current_time()
    is_probe = await rate_limiter.acquire()

    assert is_probe
    assert not rate_limiter.gate.is_rejected
    assert anyio.current_time() - began == pytest.approx(30.0, abs=0.2)


@pytest.mark.virtual(limit=HOUR)
@pytest.mark.parametrize("late", [KEY_REFUSED, JOB_REFUSED, None, TROUBLE])
async def test_answers_that_were_under_way_move_no_gate(late: PollError | None):
    """What was under way when the gate closed neither opens it nor puts the trial off."""
    rate_limiter = a_budget(600.0)
    await rate_limiter.acquire()
    await rate_limiter.acquire()
    rate_limiter.report(KEY_REFUSED, is_probe=False)
    await anyio.sleep(10.0)
    rate_limiter.report(late, is_probe=False)
    is_probe = await rate_limiter.acquire()

    assert is_probe
    assert anyio.current_time() == pytest.approx(15.1)


@pytest.mark.virtual(limit=HOUR)
async def test_gate_waits_for_a_pause_too():
    """A trial respects the pause that the host asked for."""
    rate_limiter = a_budget(600.0)
    rate_limiter.report(KEY_REFUSED, is_probe=await rate_limiter.acquire())
    rate_limiter.report(
        RateLimited("wait", retry_after=500.0), is_probe=await rate_limiter.acquire()
    )
    await rate_limiter.acquire()

    assert anyio.current_time() == pytest.approx(515.0)


@pytest.mark.virtual(limit=HOUR)
async def test_trial_that_is_asked_for():
    """Somebody who may have put the key right need not wait for the next trial."""
    rate_limiter = a_budget(600.0)
    rate_limiter.retry()
    await spend(rate_limiter, 300.0, KEY_REFUSED)

    async with anyio.create_task_group() as group:
        group.start_soon(rate_limiter.acquire)
        await anyio.sleep(1.0)
        rate_limiter.retry()

    assert anyio.current_time() == 301.0
