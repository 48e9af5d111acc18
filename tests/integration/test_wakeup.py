"""Wake-ups: a notification reaches every waiter, and is not lost while a waiter is elsewhere."""

import anyio
import pytest

from poller.runtime.wakeup import Wakeup

pytestmark = pytest.mark.virtual


async def test_wakeup_wakes_every_waiter():
    """One notification ends the wait of all tasks that wait, and says so."""
    wakeup, results = Wakeup(), []

    async def wait() -> None:
        results.append(await wakeup.wait())

    async with anyio.create_task_group() as waiters:
        for _ in range(3):
            waiters.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        wakeup.notify()

    assert results == [True, True, True]


async def test_wakeup_wait_ends_at_its_timeout():
    """Without a notification a wait ends after its timeout, and says that none came."""
    wakeup = Wakeup()
    wakeup.notify()  # before the wait

    assert not await wakeup.wait(5.0)
    assert anyio.current_time() == 5.0


async def test_wakeup_since_finds_a_notification_that_came_before_the_wait():
    """A notification between reading the state and waiting ends the wait at once."""
    wakeup = Wakeup()
    seen = wakeup.count
    wakeup.notify()

    assert await wakeup.wait(5.0, since=seen)
    assert anyio.current_time() == 0.0
    assert not await wakeup.wait(5.0, since=wakeup.count)


async def test_wakeup_that_was_notified_already_still_yields():
    """A loop that finds a notification each time does not keep others from running."""
    wakeup = Wakeup()
    wakeup.notify()
    with anyio.move_on_after(0.0) as scope:
        await wakeup.wait(since=0)

    assert scope.cancelled_caught
