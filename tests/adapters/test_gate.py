"""The gate that a refused key closes."""

from itertools import pairwise

import anyio
import pytest

from poller.core.errors import NotFound, PollError, Refused, Throttled
from poller.sutro.rate_limit import Gate
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
async def test_trials_of_a_refused_key(error: Refused, waits: list[float]):
    """A 401 and a 403 are tried again at growing waits, at last every quarter of an hour."""
    times = await spend(a_budget(600.0), 2 * HOUR, error)

    seen = [after - before for before, after in pairwise(times[:10])]
    assert seen == [pytest.approx(wait, abs=0.2) for wait in waits]


@pytest.mark.virtual(limit=3 * HOUR)
@pytest.mark.parametrize("error", [KEY_REFUSED, JOB_REFUSED])
@pytest.mark.parametrize("under_way", [1, 16])
async def test_first_hour_of_a_refused_key(error: Refused, under_way: int):
    """In the first hour a refused key costs the requests under way and eight more."""
    budget = a_budget(60_000.0)
    for _ in range(under_way):
        await budget.turn()
    for _ in range(under_way):
        budget.report(error, is_trial=False)

    assert len(await spend(budget, HOUR, error)) == 8


@pytest.mark.virtual(limit=3 * HOUR)
async def test_one_trial_at_a_time():
    """While a trial is under way, nobody else may go, however long it takes."""
    budget = a_budget(600.0)
    budget.report(KEY_REFUSED, is_trial=await budget.turn())
    is_trial = await budget.turn()
    with anyio.move_on_after(HOUR) as waiting:
        await budget.turn()

    assert is_trial
    assert waiting.cancelled_caught


@pytest.mark.virtual(limit=HOUR)
@pytest.mark.parametrize("error", [KEY_REFUSED, JOB_REFUSED])
async def test_refusal_is_believed_at_the_second(error: Refused):
    """A key counts as refused once a trial has confirmed it, not before."""
    budget = a_budget()
    budget.report(error, is_trial=await budget.turn())
    at_first = budget.gate.is_refused
    budget.report(error, is_trial=await budget.turn())

    assert (at_first, budget.gate.is_refused) == (False, True)


@pytest.mark.virtual(limit=HOUR)
async def test_trial_that_is_answered_opens_the_gate():
    """The first answer to a trial lets all requests through again."""
    budget = a_budget(600.0)
    await spend(budget, 50.0, KEY_REFUSED)
    budget.report(None, is_trial=await budget.turn())
    began = anyio.current_time()
    trials = [await budget.turn() for _ in range(5)]

    assert budget.gate == Gate()
    assert trials == [False] * 5
    assert anyio.current_time() - began < 1.0


@pytest.mark.virtual(limit=HOUR)
@pytest.mark.parametrize("error", [TROUBLE, NotFound("unknown"), HALVE])
async def test_trial_that_tells_nothing(error: PollError):
    """A trial that tells nothing of the key leaves the gate closed, and the next waits longer."""
    budget = a_budget(600.0)
    budget.report(KEY_REFUSED, is_trial=await budget.turn())
    budget.report(error, is_trial=await budget.turn())
    began = anyio.current_time()
    is_trial = await budget.turn()

    assert is_trial
    assert not budget.gate.is_refused
    assert anyio.current_time() - began == pytest.approx(30.0, abs=0.2)


@pytest.mark.virtual(limit=HOUR)
@pytest.mark.parametrize("late", [KEY_REFUSED, JOB_REFUSED, None, TROUBLE])
async def test_answers_that_were_under_way_move_no_gate(late: PollError | None):
    """What was under way when the gate closed neither opens it nor puts the trial off."""
    budget = a_budget(600.0)
    await budget.turn()
    await budget.turn()
    budget.report(KEY_REFUSED, is_trial=False)
    await anyio.sleep(10.0)
    budget.report(late, is_trial=False)
    is_trial = await budget.turn()

    assert is_trial
    assert anyio.current_time() == pytest.approx(15.1)


@pytest.mark.virtual(limit=HOUR)
async def test_gate_waits_for_a_pause_too():
    """A trial respects the pause that the host asked for."""
    budget = a_budget(600.0)
    budget.report(KEY_REFUSED, is_trial=await budget.turn())
    budget.report(Throttled("wait", retry_after=500.0), is_trial=await budget.turn())
    await budget.turn()

    assert anyio.current_time() == pytest.approx(515.0)


@pytest.mark.virtual(limit=HOUR)
async def test_trial_that_is_asked_for():
    """Somebody who may have put the key right need not wait for the next trial."""
    budget = a_budget(600.0)
    budget.retry()
    await spend(budget, 300.0, KEY_REFUSED)

    async with anyio.create_task_group() as group:
        group.start_soon(budget.turn)
        await anyio.sleep(1.0)
        budget.retry()

    assert anyio.current_time() == 301.0
