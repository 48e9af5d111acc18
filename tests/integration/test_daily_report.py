"""The daily report: on which days and when it is recorded, its id, and its period."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
import pytest

from poller.core.counters import Counters
from poller.core.events import EVENT_TYPES, Event, EventOrigin
from poller.core.job_status import JobStatus
from poller.core.outbox import WriteBatch
from poller.core.routing import Route
from poller.core.state import Phase
from poller.runtime.clock import Clock
from poller.store.daily_report import DailyReporter
from poller.store.memory import MemoryStore
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.support.builders import FINAL, a_job, check_event
from tests.support.fakes import FailingStore, recorded
from tests.support.running_app import KEY, Receiver, an_app, running_app, served
from tests.support.store_builders import DAY, a_state
from tests.support.virtual_time import virtual_clock

HOUR: Final = 3_600.0
EIGHT: Final = time_of_day(8)
RULES: Final = "EST5EDT,M3.2.0,M11.1.0"
"""The rules of America/New_York, as POSIX writes them: they need no database of zones."""
NEW_YORK: Final = (
    RULES,
    *(["America/New_York"] if Path("/usr/share/zoneinfo/America/New_York").is_file() else []),
)

pytestmark = pytest.mark.virtual(limit=60 * DAY)


@pytest.fixture(autouse=True)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the zone of the system."""
    monkeypatch.setenv("TZ", getattr(request, "param", RULES))
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Machine:
    """A wall clock that can be set, and the store of a daemon that may be down."""

    def __init__(self, start: str) -> None:
        self.start = datetime.fromisoformat(start).timestamp() - anyio.current_time()
        self.offset = 0.0
        self.woken: list[datetime] = []
        self.counters = Counters()
        self.store: Any = self.new_store()

    def new_store(self, deployment: str = "api.sutro.sh") -> MemoryStore:
        """Return an empty store, as after the loss of the old one."""
        routes = {"hook": Route(types=EVENT_TYPES)}
        return MemoryStore(routes=routes, deployment=deployment, now=self.wall)

    def wall(self) -> float:
        """Return the seconds that the wall clock shows."""
        return self.start + anyio.current_time() + self.offset

    async def until(self, moment: str) -> None:
        """Wait until the wall clock shows a time."""
        await anyio.sleep(datetime.fromisoformat(moment).timestamp() - self.wall())

    async def run(
        self, until: str, at: time_of_day | None = EIGHT, deployment: str = "api.sutro.sh"
    ) -> None:
        """Run a daemon until the wall clock shows a time."""
        clock = Clock(monotonic=anyio.current_time, wall=self.wall)
        reporter = DailyReporter(
            at=at,
            store=self.store,
            origin=EventOrigin(deployment=deployment),
            clock=clock,
            watched=tuple,
            wake=lambda: self.woken.append(clock.now()),
            counters=self.counters,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(reporter.run)
            await self.until(until)
            group.cancel_scope.cancel()

    @property
    def events(self) -> list[Event]:
        """The recorded reports."""
        return recorded(self.store)

    @property
    def reports(self) -> list[dict[str, Any]]:
        """Their data, which is valid."""
        return [check_event(event.body)["data"] for event in self.events]

    @property
    def days(self) -> list[str]:
        """Their days."""
        return [report["date"] for report in self.reports]


def utc(text: str) -> datetime:
    """Return a time of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


async def test_report_comes_at_its_time_of_each_day():
    """One report a day, at the time of the zone; the next one begins where it ends."""
    machine = Machine("2024-01-15T10:00Z")

    await machine.run("2024-01-18T20:00Z")

    assert machine.days == ["2024-01-15", "2024-01-16", "2024-01-17", "2024-01-18"]
    assert machine.woken == [utc(f"{day}T13:00:00") for day in machine.days]
    assert [report["until"] for report in machine.reports] == [
        f"{day}T13:00:00Z" for day in machine.days
    ]
    assert machine.reports[0]["since"] == "2024-01-14T13:00:00Z"
    assert len({event.id for event in machine.events}) == 4
    assert machine.counters.events == {"report.daily": 4}


@pytest.mark.parametrize("zone", NEW_YORK, indirect=True)
@pytest.mark.parametrize(
    ("start", "ends", "hours"),
    [
        ("2024-03-09T06:00Z", ["03-09T13", "03-10T12", "03-11T12"], [24, 23, 24]),
        ("2024-11-02T06:00Z", ["11-02T12", "11-03T13", "11-04T13"], [24, 25, 24]),
    ],
    ids=["spring", "autumn"],
)
async def test_day_of_a_clock_change_is_shorter_or_longer(
    start: str, ends: list[str], hours: list[int], zone: None
):
    """At eight o'clock by either time there is one report, over 23 or 25 hours once a year."""
    machine = Machine(start)

    await machine.run(f"2024-{ends[-1]}:30Z")

    assert machine.woken == [utc(f"2024-{end}:00:00") for end in ends]
    spans = [
        datetime.fromisoformat(report["until"]) - datetime.fromisoformat(report["since"])
        for report in machine.reports
    ]
    assert [span.total_seconds() / HOUR for span in spans] == hours


@pytest.mark.parametrize("zone", NEW_YORK, indirect=True)
@pytest.mark.parametrize(
    ("at", "noon", "due"),
    [
        (time_of_day(2, 30), "2024-03-10T16:00Z", "2024-03-10T07:30:00"),
        (time_of_day(1, 30), "2024-11-03T17:00Z", "2024-11-03T05:30:00"),
    ],
    ids=["a time that is left out", "a time that comes twice"],
)
async def test_time_of_a_clock_change_has_one_report(
    at: time_of_day, noon: str, due: str, zone: None
):
    """A time that the day does not have is an hour later; of two, the first one counts."""
    machine = Machine(f"{noon[:10]}T05:00Z")

    await machine.run(noon, at)

    assert machine.days == [noon[:10]]
    assert machine.woken == [utc(due)]


async def test_day_is_that_of_the_zone():
    """At ten in the evening the date of New York counts, where UTC has the next one."""
    machine = Machine("2024-01-15T20:00Z")

    await machine.run("2024-01-16T04:00Z", time_of_day(22))

    assert machine.days == ["2024-01-15"]
    assert machine.woken == [utc("2024-01-16T03:00:00")]


async def test_late_start_makes_the_report_of_that_day_alone():
    """After days without a daemon the report of today comes a minute after the start."""
    machine = Machine("2024-01-16T12:00Z")
    await machine.run("2024-01-16T20:00Z")
    await machine.until("2024-01-19T16:00Z")

    await machine.run("2024-01-19T18:00Z")

    assert machine.days == ["2024-01-16", "2024-01-19"]
    assert machine.woken[1] == utc("2024-01-19T16:01:00")
    assert machine.reports[1]["since"] == "2024-01-18T13:00:00Z"
    assert machine.reports[1]["until"] == "2024-01-19T13:00:00Z"


async def test_start_after_midnight_makes_no_report_of_yesterday():
    """A daemon that was down from seven in the morning to midnight leaves that day out."""
    machine = Machine("2024-01-15T12:00Z")
    await machine.until("2024-01-16T05:00Z")

    await machine.run("2024-01-16T12:59Z")

    assert machine.days == []


async def test_restarts_make_no_second_report():
    """However often a daemon is started on one day, its report is recorded once."""
    machine = Machine("2024-01-15T12:00Z")
    for hour in range(13, 24):
        await machine.run(f"2024-01-15T{hour}:30Z")

    assert machine.days == ["2024-01-15"]
    assert machine.counters.events == {"report.daily": 1}


async def test_lost_database_and_second_daemon_make_the_same_id():
    """The id depends on the deployment and the day alone: not on the database or the minute."""
    ids = []
    for start in ("2024-01-15T12:00Z", "2024-01-15T15:00Z"):
        machine = Machine(start)
        await machine.run("2024-01-15T16:00Z")
        machine.store = machine.new_store()
        await machine.run("2024-01-15T17:00Z")
        ids += [event.id for event in machine.events]

    assert ids == ["evt_cwtsawco527zzelam24g5yl6s5eculepdmvojmeuw663u2ewzvha"] * 2


async def test_each_deployment_has_its_own_report():
    """Another API is another account, with an id of its own on the same day."""
    machine = Machine("2024-01-15T14:00Z")
    await machine.run("2024-01-15T15:00Z")
    await machine.run("2024-01-15T16:00Z", deployment="api.eu.sutro.sh")

    assert machine.days == ["2024-01-15"] * 2
    assert len({event.id for event in machine.events}) == 2


@pytest.mark.parametrize("days", [-1, -3], ids=["a day", "three days"])
async def test_clock_that_jumps_back_makes_no_second_event(days: int):
    """Days that come again, also while the daemon runs, get no second report."""
    machine = Machine("2024-01-12T14:00Z")
    await machine.run("2024-01-16T14:00Z")
    before = machine.days
    machine.offset = days * DAY
    await machine.run("2024-01-16T15:00Z")

    assert machine.days == before == ["2024-01-12", "2024-01-13", "2024-01-14", *before[3:]]
    assert len({event.id for event in machine.events}) == len(before) == 5


async def test_clock_that_is_set_is_noticed_within_a_minute():
    """A daemon that slept, or whose clock was late, makes the report that is due by then."""
    machine = Machine("2024-01-15T08:00Z")
    async with anyio.create_task_group() as group:
        group.start_soon(machine.run, "2024-01-17T12:00Z")
        await anyio.sleep(HOUR)
        machine.offset = 8 * HOUR
        await anyio.sleep(61.0)
        assert machine.days == ["2024-01-15"]
        group.cancel_scope.cancel()


async def test_clock_in_1970_makes_no_report():
    """A host that has not reached its time server yet reports once the clock is right."""
    machine = Machine("1970-01-02T14:00Z")
    async with anyio.create_task_group() as group:
        group.start_soon(machine.run, "1970-01-05T14:00Z")
        await anyio.sleep(DAY)
        assert machine.days == []
        machine.offset = utc("2024-01-15T14:00:00").timestamp() - machine.wall()
        await anyio.sleep(61.0)
        group.cancel_scope.cancel()

    assert machine.days == ["2024-01-15"]


async def test_end_that_a_wrong_clock_recorded_counts():
    """What was recorded before the clock was set right, by its old time, is in the report."""
    machine = Machine("1970-01-02T10:00Z")
    async with anyio.create_task_group() as group:
        group.start_soon(machine.run, "1970-01-05T14:00Z")
        await anyio.sleep(HOUR)
        job = a_job("SUCCEEDED", **FINAL)
        state = a_state(phase=Phase.DONE, since=machine.wall(), status=job.status, job=job)
        await machine.store.write(WriteBatch(states=[state]))
        machine.offset = utc("2024-01-15T12:30:00").timestamp() - machine.wall()
        await anyio.sleep(HOUR)
        group.cancel_scope.cancel()

    assert [(report["date"], report["succeeded"]) for report in machine.reports] == [
        ("2024-01-15", 1)
    ]


async def test_no_report_without_the_setting():
    """Without a time of day nothing is recorded."""
    machine = Machine("2024-01-15T12:00Z")

    await machine.run("2024-01-18T12:00Z", None)

    assert machine.events == []


@pytest.mark.parametrize("verb", ["get_flags", "report", "write"])
@pytest.mark.parametrize("failure", ["fails", "lies"])
async def test_failing_store_makes_one_report_when_it_works_again(verb: str, failure: str):
    """Whatever fails at eight o'clock, also after it was written, is done once, on that day."""
    machine = Machine("2024-01-15T12:50Z")
    machine.store = failing = FailingStore(machine.new_store())
    getattr(failing, failure).add(verb)
    async with anyio.create_task_group() as group:
        group.start_soon(machine.run, "2024-01-15T13:40Z")
        await machine.until("2024-01-15T13:20Z")
        getattr(failing, failure).clear()

    assert machine.days == ["2024-01-15"]


async def test_store_that_fails_until_midnight_leaves_the_day_out():
    """What cannot be recorded today is no report of tomorrow."""
    machine = Machine("2024-01-16T04:00Z")
    machine.store = failing = FailingStore(machine.new_store())
    failing.fails.add("write")
    async with anyio.create_task_group() as group:
        group.start_soon(machine.run, "2024-01-16T06:00Z", time_of_day(23, 55))
        await machine.until("2024-01-16T05:00Z")
        failing.fails.clear()

    assert machine.days == []


@pytest.mark.parametrize("stop", ["before the read", "before the write", "after the write"])
async def test_stop_at_any_point_leaves_one_report(stop: str):
    """A daemon that ends in the middle of its report makes it at the next start, or has made it."""
    machine = Machine("2024-01-15T12:00Z")
    machine.store = failing = FailingStore(machine.new_store())
    verb = {"before the read": "report"}.get(stop, "write")
    (failing.lies if stop == "after the write" else failing.hangs).add(verb)
    await machine.run("2024-01-15T13:00:00.5Z")
    machine.store = failing.store
    await machine.run("2024-01-15T16:00Z")

    assert machine.days == ["2024-01-15"]


async def test_each_end_is_in_one_report():
    """Over weeks, with a clock change and with nights without a daemon, each end counts once."""
    machine, random = Machine("2024-10-28T12:00Z"), Random(5)
    ended: Counter[str] = Counter()
    date_of_start = date(2024, 10, 29)

    async def end_jobs() -> None:
        for number in range(300):
            await anyio.sleep(random.uniform(0.0, 2 * HOUR))
            status = random.choice([JobStatus.SUCCEEDED, JobStatus.FAILED])
            job = a_job(status, job_id=f"job-{number}", **FINAL)
            state = a_state(
                job.job_id, phase=Phase.DONE, since=machine.wall(), status=status, job=job
            )
            await machine.store.write(WriteBatch(states=[state]))
            ended[status.lower()] += 1

    async with anyio.create_task_group() as group:
        group.start_soon(end_jobs)
        for day in range(20):
            text = (date_of_start + timedelta(days=day)).isoformat()
            await machine.until(f"{text}T{random.randrange(10, 12)}:00Z")
            await machine.run(f"{text}T{random.randrange(14, 22)}:00Z")

    reports = machine.reports
    assert len(reports) == 20
    assert {kind: sum(report[kind] for report in reports) for kind in ended} == ended
    assert ended.total() == 300


async def test_daemon_sends_the_report_to_the_sinks_that_name_it():
    """The whole daemon reports a job that ended, and one that runs for hours without a change."""
    api, receiver = Simulator(now=virtual_clock().steady, key=KEY), Receiver()
    api.add(JobScript(job_id="job-1", run_seconds=600.0))
    api.add(JobScript(job_id="job-2", run_seconds=1e6))
    async with serve(api) as url, served(receiver.take) as hook:
        app = an_app(
            url,
            hook,
            POLLER_JOB_IDS="job-1,job-2,job-3",
            POLLER_WEBHOOK_EVENTS="report.daily",
            POLLER_DAILY_REPORT="8:00",
        )
        app.new_store = lambda config, clock: MemoryStore(
            routes=config.routes, deployment=config.origin.deployment, now=clock.steady
        )
        async with running_app(app):
            await anyio.sleep(3.5 * HOUR)

    (event,) = receiver.events
    data = event["data"]
    assert event["timestamp"] == "2024-01-15T13:00:00Z"
    assert (data["date"], data["succeeded"], data["missing_ids"]) == ("2024-01-15", 1, ["job-3"])
    assert [job["job_id"] for job in data["unchanged"]] == ["job-2"]
    assert data["slowest"][0]["seconds"] == pytest.approx(600.0)
