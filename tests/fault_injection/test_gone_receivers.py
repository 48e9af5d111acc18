"""Receivers that are gone for weeks or fail some events, absences of the daemon, wrong clocks."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, Final

import anyio
import pytest

from poller.core.errors import DeliveryError
from poller.core.outbox import Delivery, WriteBatch
from poller.core.retry import MAX_REJECTIONS
from poller.store.memory import MemoryStore
from tests.fault_injection.harness import SCALE, tally
from tests.support.fakes import TimedSink, a_store, dispatching
from tests.support.store_builders import an_event
from tests.support.virtual_time import START, virtual_clock

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
WEEK: Final = 7 * DAY
SLACK: Final = 30 * HOUR
"""A pause of a day, the retry delays, and a probe."""
SHORT_ABSENCE: Final = 27 * HOUR
LONG_ABSENCE: Final = 3 * DAY
JUMPS: Final = (0.0, 0.0, 0.0, 60 * DAY, -60 * DAY, 9_000 * DAY)
PROMISE: Final = (
    "only what is rejected, or fails for 7 days while the daemon runs, becomes a dead letter; of a"
    " receiver that is gone for good, no more than that waits"
)
ROWS: Final = "SELECT event_id, sink, status, rejections, created_at, ended_at FROM deliveries"

REJECTED: Final = DeliveryError("returned 422", is_sink_fault=False, is_rejected=True)
AWAY: Final = DeliveryError("returned 404", is_sink_fault=False, is_suspect=True)
CONFLICT: Final = DeliveryError("returned 409", is_sink_fault=False)
DOWN: Final = DeliveryError("returned 503")
LONGEST: Final = {"gone": 25 * DAY, "away": 8 * HOUR, "down": 8 * HOUR, "hangs": 8 * HOUR}

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.virtual(limit=400 * DAY),
    pytest.mark.usefixtures("quiet"),
]


@pytest.fixture(autouse=True)
def _long_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let loops that wait sleep for an hour, since their heartbeats fill virtual weeks."""
    for name in ("worker.HEARTBEAT_INTERVAL", "worker.STORE_POLL_INTERVAL"):
        monkeypatch.setattr(f"poller.delivery.{name}", HOUR)
    monkeypatch.setattr("poller.delivery.dispatcher.HEARTBEAT_INTERVAL", HOUR)


@dataclass
class ScriptedReceiver:
    """A receiver with periods of faults, the last of which may have no end."""

    random: Random
    periods: list[tuple[float, float, str]] = field(default_factory=list)
    failing: dict[str, list[DeliveryError]] = field(default_factory=dict)
    successes: list[float] = field(default_factory=list)
    rejections: Counter[str] = field(default_factory=Counter)
    sink: TimedSink = field(default_factory=TimedSink)

    def schedule(self, lasting: float, *, is_gone_at_the_end: bool) -> None:
        """Create the fault periods of so many seconds."""
        self.sink.failure = self.respond
        now = 0.0
        while now < lasting:
            now += self.random.uniform(0.0, 4 * DAY)
            kind = self.random.choice(list(LONGEST))
            length = self.random.uniform(0.1, 1.0) * LONGEST[kind]
            self.periods.append((now, now + length, kind))
            now += length
        if is_gone_at_the_end:
            self.periods.append((lasting / 2, 1e12, "gone"))

    def add_failures(self, event_id: str) -> None:
        """Fail an event a few times, or more often than it is tried."""
        error, times = self.random.choice([REJECTED, AWAY, CONFLICT]), self.random.choice([1, 2, 9])
        self.failing[event_id] = [error] * times

    async def respond(self, delivery: Delivery) -> None:
        """Accept an event, or fail it by the fault that is active."""
        now = anyio.current_time()
        kinds = [kind for begin, end, kind in self.periods if begin <= now < end]
        if "gone" in kinds:
            raise DeliveryError("cannot connect", retry_after=self.random.choice([1, 6, 24]) * HOUR)
        if "hangs" in kinds:
            await anyio.sleep(200.0)
        if kinds:
            raise AWAY if kinds[0] == "away" else DOWN
        if errors := self.failing.get(delivery.event.id):
            self.rejections[delivery.event.id] += errors[-1].is_rejected
            raise errors.pop()
        self.successes.append(now)

    @property
    def is_gone(self) -> bool:
        """Return whether it is gone for good."""
        return self.periods[-1][1] >= 1e12


@dataclass
class Run:
    """A time in which the daemon runs, by true time, and what its clock adds to that."""

    begin: float
    end: float
    offset: float


@dataclass
class World:
    """A store, its receivers, and the runs of the daemon."""

    random: Random
    receivers: dict[str, ScriptedReceiver]
    store: MemoryStore
    runs: list[Run] = field(default_factory=list)
    recorded: dict[str, float] = field(default_factory=dict)
    jobs: int = 0

    async def run(self, length: float, offset: float) -> None:
        """Run the daemon for so many seconds, and record events meanwhile."""
        clock = virtual_clock(START + timedelta(seconds=offset))
        self.store._now = clock.steady
        self.store.transact(self.store._prepare)
        begin = anyio.current_time()
        self.runs.append(Run(begin, begin + length, offset))
        sinks = {name: receiver.sink for name, receiver in self.receivers.items()}
        async with dispatching(self.store, clock=clock, **sinks) as dispatcher:
            while anyio.current_time() < begin + length:
                await self.record()
                dispatcher.wake()
                left = begin + length - anyio.current_time()
                await anyio.sleep(min(self.random.uniform(0.0, DAY), left))

    async def record(self) -> None:
        """Record the events of one or several jobs."""
        jobs = range(self.jobs, self.jobs + self.random.choice([1, 1, 3, 20]))
        self.jobs = jobs.stop
        events = [an_event(f"{job}-{step}", f"job-{job}") for job in jobs for step in range(2)]
        for event in events:
            self.recorded[event.id] = anyio.current_time()
            for receiver in self.receivers.values():
                if self.random.random() < 0.1:
                    receiver.add_failures(event.id)
        await self.store.write(WriteBatch(events=events))

    def uptime(self, begin: float, end: float) -> float:
        """Return the time between two moments in which the daemon ran."""
        return sum(max(0.0, min(run.end, end) - max(run.begin, begin)) for run in self.runs)

    def counted(self, begin: float, end: float) -> float:
        """Return the time between two moments that may count as one of failures."""
        pairs = zip(self.runs, self.runs[1:], strict=False)
        short = [
            after.begin - before.end
            for before, after in pairs
            if begin < after.begin <= end and after.begin - before.end <= SHORT_ABSENCE
        ]
        return self.uptime(begin, end) + sum(short)

    @property
    def last_break(self) -> float:
        """When the last run began before which the daemon was off for days, or its clock wrong."""
        pairs = zip(self.runs, self.runs[1:], strict=False)
        return max(
            after.begin
            for before, after in [(Run(-1e9, -1e9, 0.0), self.runs[0]), *pairs]
            if after.begin - before.end > LONG_ABSENCE - SLACK or after.offset != before.offset
        )

    def violations(self) -> list[str]:
        """Return what is wrong with the deliveries."""
        rows = self.store.transact(lambda db: db.execute(ROWS).fetchall())
        return [
            f"{row['sink']} {row['event_id']} {row['status']}: {text}"
            for row in rows
            if (text := self._wrong(row))
        ] + [text for name in self.receivers if (text := self._disorder(name))]

    def _wrong(self, row: Any) -> str | None:
        receiver, recorded = self.receivers[row["sink"]], self.recorded[row["event_id"]]
        if receiver.rejections[row["event_id"]] > MAX_REJECTIONS:
            return f"rejected {receiver.rejections[row['event_id']]} times"
        if row["status"] == "delivered":
            return None if row["event_id"] in receiver.sink.ids else "not received"
        if row["status"] == "dead":
            failed = max(self._failed(receiver, recorded, at) for at in self._true_times(row))
            is_due = row["rejections"] >= MAX_REJECTIONS - 1 or failed >= WEEK - MINUTE
            return None if is_due else f"after {failed / DAY:.2f} days"
        if not receiver.is_gone:
            return None
        # By a clock that was set back, an event may be younger than it is.
        created = row["created_at"] - START.timestamp() - self.runs[-1].offset
        since = max(recorded, created, self.last_break, *receiver.successes[-1:])
        waited = self.uptime(since, anyio.current_time())
        return f"for {waited / DAY:.2f} days" if waited > WEEK + SLACK else None

    def _true_times(self, row: Any) -> list[float]:
        """Return when a delivery may have ended: its time by the clocks of the runs."""
        ended = row["ended_at"] - START.timestamp()
        times = [(run, ended - run.offset) for run in self.runs]
        return [at for run, at in times if run.begin <= at <= run.end + MINUTE]

    def _failed(self, receiver: ScriptedReceiver, recorded: float, now: float) -> float:
        """Return how long a delivery had failed by itself, or with its sink if it was as old."""
        last = max((at for at in receiver.successes if at <= now), default=0.0)
        with_sink = min(self.counted(last, now), now - recorded)
        return max(self.counted(recorded, now), with_sink)

    def _disorder(self, name: str) -> str | None:
        ids = list(dict.fromkeys(self.receivers[name].sink.ids))
        wrong = [
            later
            for place, later in enumerate(ids)
            if later.endswith("-1") and f"{later[:-1]}0" in ids[place:]
        ]
        return f"out of order: {wrong}" if wrong else None


async def run_case(seed: int) -> list[str]:
    """Run one world for weeks; return what is wrong."""
    random = SCALE.random("gone receivers", seed)
    names = ["first", "second"]
    receivers = {name: ScriptedReceiver(random) for name in names}
    for name, receiver in receivers.items():
        receiver.schedule(50 * DAY, is_gone_at_the_end=name == "first")
    world, offset = World(random, receivers, a_store(*names)), 0.0
    while anyio.current_time() < 60 * DAY:
        await world.run(random.choice([10 * MINUTE, 6 * HOUR, 2 * DAY, 10 * DAY]), offset)
        await anyio.sleep(random.choice([0.0, MINUTE, 8 * HOUR, 2 * DAY, 12 * DAY]))
        offset += random.choice(JUMPS)
    await world.run(random.choice([1 * DAY, 12 * DAY]), offset)
    return [f"case {seed}: {line}" for line in world.violations()]


@pytest.mark.parametrize("seed", range(SCALE.cases(3, 100)))
async def test_only_what_fails_for_a_week_dies(seed: int):
    """Over weeks of faults, absences and wrong clocks nothing dies early or waits too long."""
    tally(PROMISE, cases=1, violations=await run_case(seed))
