"""Retention while the wall clock is wrong, and what is logged of a sweep."""

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from structlog.testing import capture_logs
from structlog.typing import EventDict

from poller.core.events import EVENT_TYPES
from poller.core.outbox import Pruned, WriteBatch
from poller.core.routing import Route
from poller.runtime.clock import Clock
from poller.store.maintenance import Sweeper, log_pruned, run_retention
from poller.store.memory import MemoryStore
from tests.support.store_builders import DAY, HOOK, NOON, an_event, dead, due

HOUR = 3_600.0
SINCE_1970 = 19_737

pytestmark = pytest.mark.virtual(limit=200 * DAY)


class Machine:
    """A wall clock that can be set, and a daemon's store, whose clock begins with each start."""

    def __init__(self) -> None:
        self.offset = 0.0
        self.is_confirmed = False
        self.clock = Clock(monotonic=anyio.current_time, wall=self.wall)
        self.store = MemoryStore(
            routes={HOOK: Route(types=EVENT_TYPES)}, deployment="api.example", now=self.steady
        )

    def wall(self) -> float:
        """Return what the wall clock shows."""
        return NOON + anyio.current_time() + self.offset

    def steady(self) -> float:
        """Return the time of the process that runs."""
        return self.clock.steady()

    async def run(self, seconds: float, *, right_after: float | None = None) -> list[EventDict]:
        """Start a daemon for so long; set the clock right at a moment. Return what it deleted."""
        self.clock = Clock(monotonic=anyio.current_time, wall=self.wall)
        with capture_logs() as lines, anyio.move_on_after(seconds):
            async with anyio.create_task_group() as group:
                group.start_soon(run_retention, self.sweeper(), checkpoint)
                if right_after is not None:
                    await self.add_dead_letter("wrong")
                    await anyio.sleep(right_after)
                    self.offset = 0.0
        return [line for line in lines if line["event"] == "store.pruned"]

    def sweeper(self) -> Sweeper:
        """Return what deletes old rows of a daemon that watches no jobs."""
        return Sweeper(
            store=self.store, clock=self.clock, watched=tuple, is_clock_right=self.is_clock_right
        )

    def is_clock_right(self) -> bool:
        """Return whether the API has shown that the clock of the process is right."""
        return self.is_confirmed and abs(self.steady() - NOON - anyio.current_time()) < HOUR

    async def add_dead_letter(self, name: str) -> None:
        """Record an event that was given up."""
        await self.store.write(WriteBatch(events=[an_event(name)]))
        await self.store.settle([dead((await due(self.store, self.steady(), HOOK))[0])])

    async def dead_letters(self) -> int:
        """Return how many dead letters are kept."""
        return sum(backlog.dead for backlog in await self.store.backlogs())


@pytest.fixture
async def machine() -> Machine:
    """Return a machine whose daemon swept an hour ago, and has had a dead letter since."""
    machine = Machine()
    await machine.run(2 * HOUR)
    await machine.add_dead_letter("right")
    return machine


@pytest.mark.parametrize("days", [60, -60, -SINCE_1970], ids=["ahead", "behind", "in 1970"])
async def test_wrong_clock_deletes_nothing(machine: Machine, days: float):
    """A clock that is wrong at the start, and is set right soon after, deletes no dead letter."""
    machine.offset = days * DAY

    await machine.run(5 * HOUR, right_after=33.0)

    assert await machine.dead_letters() == 2


async def test_wrong_clock_of_several_starts_deletes_nothing(machine: Machine):
    """A clock must stay right for an hour, however often the daemon is started meanwhile."""
    machine.offset = 60 * DAY
    for _ in range(5):
        await machine.run(HOUR / 6)

    assert await machine.dead_letters() == 1


async def test_rows_are_deleted_an_hour_after_a_long_pause(machine: Machine):
    """After weeks without a daemon, old rows go at the second sweep, with a warning."""
    await anyio.sleep(60 * DAY)

    early, kept = await machine.run(HOUR), await machine.dead_letters()
    late = await machine.run(HOUR)

    assert (early, kept, await machine.dead_letters()) == ([], 1, 0)
    assert late == [
        {"event": "store.pruned", "log_level": "warning", "events": 1, "dead_letters": 1}
    ]


async def test_short_runs_far_apart_delete_old_rows(machine: Machine):
    """A daemon that runs for minutes every few days deletes old rows once the API has its time."""
    machine.is_confirmed = True
    left = []
    for _ in range(20):
        await anyio.sleep(3 * DAY)
        await machine.run(300.0)
        left.append(await machine.dead_letters())

    assert left == [1] * 9 + [0] * 11


async def test_contradicted_clock_of_short_runs_deletes_nothing(machine: Machine):
    """While the API contradicts its clock, a daemon that runs for minutes deletes nothing."""
    machine.is_confirmed, machine.offset = True, 60 * DAY
    for _ in range(5):
        await anyio.sleep(3 * DAY)
        await machine.run(300.0)

    assert await machine.dead_letters() == 1


async def test_sweep_that_is_cancelled_is_logged(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    """A stop in the middle of a sweep does not hide what the sweep has deleted."""
    real = machine.store._prune_events

    async def stop(*arguments: Any) -> None:
        await real(*arguments)
        scope.cancel()
        await checkpoint()

    monkeypatch.setattr(machine.store, "_prune_events", stop)
    with capture_logs() as lines, anyio.CancelScope() as scope:
        await machine.store.prune(machine.steady() + 60 * DAY, [])

    assert scope.cancelled_caught
    assert [(line["event"], line["dead_letters"]) for line in lines] == [("store.pruned", 1)]


@pytest.mark.parametrize(
    ("pruned", "levels"),
    [
        (Pruned(), []),
        (Pruned(events=7, jobs=1), ["info"]),
        (Pruned(events=7, dead_letters=1), ["warning"]),
        (Pruned(unconfigured=1), ["warning"]),
    ],
)
async def test_sweep_is_logged_by_what_it_deleted(pruned: Pruned, levels: list[str]):
    """Deliveries that are lost are a warning; a sweep that deletes nothing is not logged."""
    with capture_logs() as lines:
        log_pruned(pruned)

    assert [line["log_level"] for line in lines] == levels
