"""Jobs that are not named are discovered in the account's list, and watched to their end."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import randrange
from typing import Any, Final

import anyio
import pytest
from aiohttp import web

from poller.app import App
from poller.config import Config
from poller.core.errors import NotFound
from poller.core.outbox import Retention
from poller.polling.discovery import DiscoveryFilter
from poller.runtime.clock import Clock
from poller.store.sqlite import SqliteStore
from poller.sutro.port import Observation
from poller.sutro.simulator import server as simulator
from poller.sutro.simulator.faults import Fault
from poller.sutro.simulator.script import JobScript, SimulatedJob
from poller.sutro.simulator.server import Simulator, application
from tests.support.builders import a_job
from tests.support.fakes import FakeSource, a_watcher, recorded_types, running
from tests.support.fakes import a_store as a_memory_store
from tests.support.running_app import KEY, Receiver, an_app, running_app, served, served_app
from tests.support.virtual_time import START, virtual_clock

pytestmark = pytest.mark.virtual(limit=40_000.0)

HOUR: Final = 3_600.0
DAY: Final = 24 * HOUR
API_PORT: Final = 8377
BRIEF: Final = {"queue_seconds": 0.0, "run_seconds": 1.0}


class Account:
    """An account, a receiver, and the daemons that run in turn."""

    def __init__(self, folder: Path) -> None:
        self.clock: Clock = virtual_clock()
        self.api = Simulator(now=self.clock.steady, key=KEY)
        self.receiver = Receiver()
        self.host = a_host()
        self.path = folder / "state.db"
        self.retention = Retention()

    def add(self, *job_ids: str, **fields: Any) -> None:
        """Submit jobs that run for five minutes by default."""
        for job_id in job_ids:
            given = {"queue_seconds": 0.0, "run_seconds": 300.0} | fields
            self.api.add(JobScript(job_id=job_id, **given))

    @property
    def ends(self) -> list[str]:
        """Return the ids of the jobs whose ends were delivered, in order."""
        return [event["data"]["job"]["job_id"] for event in self.receiver.events]

    @property
    def pages(self) -> int:
        """Return how many pages were requested."""
        return self.api.requests["list-jobs"]

    @asynccontextmanager
    async def discovering(self, **changes: str) -> AsyncIterator[App]:
        """Run a daemon without named jobs while the block runs."""
        given = {"POLLER_JOB_IDS": "", "POLLER_DISCOVER": "on", "POLLER_STORE": str(self.path)}
        new_store = partial(a_store, retention=self.retention)
        async with (
            served_app(application(self.api), self.host, API_PORT) as url,
            served(self.receiver.take) as hook,
            running_app(
                an_app(
                    f"{url}/v1", hook, clock=self.clock, new_store=new_store, **(given | changes)
                )
            ) as app,
        ):
            yield app
            await anyio.sleep(1.0)  # the last events are delivered


def a_host() -> str:
    """Return an address of loopback for one deployment, the same after a restart."""
    return ".".join(["127", *(str(randrange(1, 255)) for _ in range(3))])


def a_store(config: Config, clock: Clock, *, retention: Retention) -> SqliteStore:
    """Return a store on disk for virtual time, which knows no threads."""
    return SqliteStore(
        Path(config.settings.store),
        routes=config.routes,
        deployment=config.origin.deployment,
        now=clock.steady,
        retention=retention,
        in_thread=False,
    )


@pytest.fixture
async def account(tmp_path: Path) -> Account:
    """Return an account without jobs."""
    return Account(tmp_path)


async def test_discovery_watches_a_new_job_to_its_end(account: Account):
    """A job that is submitted while the daemon runs is announced, though it is not named."""
    async with account.discovering():
        await anyio.sleep(100.0)
        account.add("job-1")
        await anyio.sleep(400.0)

    assert account.ends == ["job-1"]


async def test_discovery_finds_a_job_that_ended_between_scans(account: Account):
    """A job that began and ended between two scans is announced."""
    async with account.discovering():
        await anyio.sleep(35.0)
        account.add("job-1", **(BRIEF))
        await anyio.sleep(60.0)

    assert account.ends == ["job-1"]


async def test_discovery_ignores_jobs_completed_before_first_start(account: Account):
    """Ten thousand old jobs are no events, and cost a page a hundred; a running one is watched.

    Later they cost as much for each doubling of their age, when all of them are read again.
    """
    account.add("long", run_seconds=2 * HOUR)
    for number in range(10_000):
        account.add(f"old-{number}", queue_seconds=0.0, run_seconds=0.5)
    await anyio.sleep(1_200.0)
    async with account.discovering(POLLER_REQUESTS_PER_MINUTE="600"):
        await anyio.sleep(60.0)
        at_start = account.pages
        await anyio.sleep(2 * HOUR)

    assert account.ends == ["long"]
    assert at_start <= 105
    assert account.pages - at_start <= 245 + 3 * 100


async def test_discovery_of_an_idle_account_costs_a_page_every_half_minute(account: Account):
    """While nothing is new each scan is one request, but for a few that read deeper."""
    account.add(*(f"old-{number}" for number in range(150)), run_seconds=1.0)
    await anyio.sleep(10.0)
    async with account.discovering():
        await anyio.sleep(HOUR)

    assert account.pages <= 120 + 6


async def test_survey_of_a_long_list_leaves_half_of_the_requests_to_polls(account: Account):
    """While many pages are read, a watched job is polled with every second request."""
    account.add(*(f"old-{number}" for number in range(2_500)), run_seconds=1.0)
    account.add("long", run_seconds=HOUR)
    async with account.discovering(
        POLLER_JOB_IDS="long", POLLER_MAX_INTERVAL="2s", POLLER_REQUESTS_PER_MINUTE="30"
    ):
        await anyio.sleep(40.0)

    assert account.api.requests["jobs"] >= 8
    assert account.pages >= 8


@pytest.mark.slow
async def test_discovery_finds_more_new_jobs_than_a_page(account: Account):
    """More new jobs than a page shows are all found."""
    async with account.discovering(POLLER_REQUESTS_PER_MINUTE="600"):
        await anyio.sleep(45.0)
        account.add(*(f"job-{number}" for number in range(350)))
        await anyio.sleep(500.0)

    assert len(account.ends) == len(set(account.ends)) == 350


@pytest.mark.parametrize("newer", [30, 150])
async def test_discovery_finds_a_job_that_the_list_shows_late(account: Account, newer: int):
    """A job that shows below newer ones, minutes after its submission, is found all the same."""
    async with account.discovering(POLLER_REQUESTS_PER_MINUTE="600"):
        await anyio.sleep(100.0)
        account.add("late", appears_after=250.0, run_seconds=3_000.0)
        account.add(*(f"job-{number}" for number in range(newer)), run_seconds=5.0)
        await anyio.sleep(3_600.0)

    assert "late" in account.ends
    assert account.pages <= 160


async def test_discovery_finds_a_late_job_while_polls_read_the_top(account: Account):
    """Polls that read the first page all the time do not replace the scan of what is below it."""
    async with account.discovering(
        POLLER_REQUESTS_PER_MINUTE="600", POLLER_MIN_INTERVAL="10s", POLLER_MAX_INTERVAL="10s"
    ):
        await anyio.sleep(100.0)
        account.add("late", appears_after=100.0, run_seconds=900.0)
        account.add(*(f"job-{number}" for number in range(150)), run_seconds=5.0)
        account.add(*(f"long-{number}" for number in range(40)), run_seconds=HOUR)
        await anyio.sleep(1_500.0)

    assert "late" in account.ends


async def test_discovery_reads_the_top_though_what_is_below_is_rejected(
    account: Account, monkeypatch: pytest.MonkeyPatch
):
    """Where the API rejects every cursor, a job on the first page is found as soon as before."""
    list_jobs = simulator._list_jobs

    async def reject_cursor(account_api: Simulator, request: web.Request) -> web.Response:
        if "cursor" in request.query:
            return web.json_response({"message": "invalid cursor"}, status=400)
        return await list_jobs(account_api, request)

    monkeypatch.setattr(simulator, "_list_jobs", reject_cursor)
    account.add(*(f"old-{number}" for number in range(150)), run_seconds=1.0)
    await anyio.sleep(10.0)
    async with account.discovering():
        await anyio.sleep(4 * HOUR)
        account.add("new", **(BRIEF))
        await anyio.sleep(150.0)

    assert account.ends == ["new"]


@pytest.mark.parametrize("created", ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31"])
async def test_discovery_reads_on_below_a_row_with_an_odd_date(
    account: Account, monkeypatch, created: str
):
    """One row with a date that is far off is found, and hides none of those below its page."""
    show = SimulatedJob.as_object

    def as_object(self: SimulatedJob, now: float) -> dict[str, Any]:
        shown = show(self, now)
        return shown | ({"datetime_created": created} if self.script.job_id == "odd" else {})

    monkeypatch.setattr(SimulatedJob, "as_object", as_object)
    account.add(*(f"below-{number}" for number in range(150)), run_seconds=100.0)
    account.add("odd")
    account.add(*(f"above-{number}" for number in range(20)), run_seconds=100.0)
    async with account.discovering(POLLER_REQUESTS_PER_MINUTE="600"):
        await anyio.sleep(600.0)

    assert len(set(account.ends)) == 171


async def test_discovery_reports_new_ends_without_dates(account: Account, monkeypatch):
    """Where ends have no dates, those count as new that the list did not show at first."""
    show_without(monkeypatch, "datetime_created", "datetime_started", "datetime_completed")
    account.add("old", **BRIEF)
    await anyio.sleep(10.0)
    async with account.discovering():
        await anyio.sleep(100.0)
        account.add("new", **BRIEF)
        await anyio.sleep(100.0)

    assert account.ends == ["new"]


def show_without(monkeypatch: pytest.MonkeyPatch, *fields: str) -> None:
    """Have the API show jobs without some fields."""
    show = SimulatedJob.as_object
    monkeypatch.setattr(
        SimulatedJob, "as_object", lambda job, now: show(job, now) | dict.fromkeys(fields)
    )


async def test_discovery_reports_what_started_since_its_first_start(account: Account, monkeypatch):
    """A job that started after the first start is reported, though no other date shows its end."""
    show_without(monkeypatch, "datetime_created", "datetime_completed")
    account.add("old", **BRIEF)
    await anyio.sleep(60.0)
    async with account.discovering():
        await anyio.sleep(60.0)
    account.add("new", **BRIEF)
    await anyio.sleep(60.0)
    async with account.discovering():
        await anyio.sleep(100.0)

    assert account.ends == ["new"]


async def test_creation_before_the_first_start_is_no_end(account: Account, monkeypatch):
    """A job without a completion time that the list did not show at first is new."""
    show_without(monkeypatch, "datetime_started", "datetime_completed")
    account.add("old", **BRIEF)
    account.add("late", run_seconds=60.0, listed_after=200.0)
    await anyio.sleep(10.0)
    async with account.discovering():
        await anyio.sleep(600.0)

    assert account.ends == ["late"]


async def test_reload_reads_the_list_at_once(account: Account):
    """A SIGHUP does not wait for the next scan, however rare these are."""
    async with account.discovering(POLLER_DISCOVER_INTERVAL="1h") as app:
        await anyio.sleep(100.0)
        account.add("job-1", **BRIEF)
        await anyio.sleep(10.0)
        app.reload()
        await anyio.sleep(30.0)
        ends = list(account.ends)

    assert ends == ["job-1"]


async def test_discovery_rescans_after_a_failed_page(account: Account):
    """When a scan of several pages fails, its unread part is read again."""
    async with account.discovering(POLLER_REQUESTS_PER_MINUTE="600"):
        await anyio.sleep(45.0)
        account.add(*(f"job-{number}" for number in range(350)))
        await anyio.sleep(16.1)  # the second of four pages has come
        account.api.faults.append(Fault(status=500, count=3, path="list-jobs"))
        await anyio.sleep(600.0)

    assert len(set(account.ends)) == 350


async def test_discovery_announces_what_ended_during_a_restart(account: Account):
    """Jobs that began or ended while no daemon ran are announced by the next one, none twice."""
    async with account.discovering():
        await anyio.sleep(10.0)
        account.add("announced", run_seconds=60.0)
        account.add("runs", run_seconds=HOUR)
        account.add("ends", run_seconds=400.0)
        await anyio.sleep(200.0)
    account.add("brief", **BRIEF)
    await anyio.sleep(600.0)
    before = list(account.ends)
    async with account.discovering():
        await anyio.sleep(100.0)
        meanwhile = account.ends[len(before) :]
        await anyio.sleep(HOUR)

    assert before == ["announced"]
    assert sorted(meanwhile) == ["brief", "ends"]
    assert account.ends[len(before) + len(meanwhile) :] == ["runs"]


async def test_discovered_job_is_watched_past_the_max_age(account: Account):
    """A discovered job stays watched when it is older than new ones may be."""
    async with account.discovering(POLLER_DISCOVER_MAX_AGE="10m"):
        account.add("long", run_seconds=2 * HOUR)
        await anyio.sleep(60.0)
    await anyio.sleep(1 * HOUR)
    async with account.discovering(POLLER_DISCOVER_MAX_AGE="10m"):
        await anyio.sleep(1.2 * HOUR)

    assert account.ends == ["long"]


async def test_discovered_job_is_kept_while_it_is_watched(account: Account):
    """The record of a discovered job is not deleted while the job runs, however long that is."""
    account.retention = Retention(jobs=600.0)
    async with account.discovering(POLLER_DISCOVER_MAX_AGE="10m"):
        account.add("long", run_seconds=3 * HOUR)
        await anyio.sleep(1.2 * HOUR)
    async with account.discovering(POLLER_DISCOVER_MAX_AGE="10m"):
        await anyio.sleep(2 * HOUR)

    assert account.ends == ["long"]


@pytest.mark.parametrize("days", [8, -8, 10_000])
async def test_discovery_survives_a_corrected_wall_clock(account: Account, days: int):
    """A clock that is wrong when the daemon starts, and corrected later, hides no job."""
    off = -days * DAY
    account.clock = Clock(anyio.current_time, lambda: virtual_clock().steady() + off)
    async with account.discovering():
        await anyio.sleep(100.0)
        off = 0.0
        account.add("runs")
        account.add("brief", **BRIEF)
        await anyio.sleep(600.0)

    assert sorted(account.ends) == ["brief", "runs"]


async def test_discovery_survives_a_start_recorded_in_the_future(account: Account):
    """A daemon that started while the clock was years ahead finds jobs once it is right again."""
    right = account.clock
    account.clock = Clock(anyio.current_time, lambda: right.steady() + 1_000 * DAY)
    async with account.discovering():
        await anyio.sleep(10.0)
    account.clock = right
    async with account.discovering():
        await anyio.sleep(50.0)
        account.add("brief", **BRIEF)
        await anyio.sleep(100.0)

    assert account.ends == ["brief"]


async def test_discovery_catches_up_after_suspend(account: Account):
    """Jobs that began or ended while the machine was suspended are announced."""
    asleep = 0.0
    wall = account.api.now = lambda: virtual_clock().steady() + asleep
    account.clock = Clock(anyio.current_time, wall)
    async with account.discovering():
        await anyio.sleep(1_000.0)
        asleep = 6 * HOUR
        account.add("brief", **BRIEF)
        asleep = 14 * HOUR
        await anyio.sleep(100.0)

    assert account.ends == ["brief"]


async def test_discovery_filters_by_name_and_model(account: Account):
    """Only jobs whose name and model match are watched."""
    async with account.discovering(
        POLLER_DISCOVER_NAME="nightly *", POLLER_DISCOVER_MODEL="llama*"
    ):
        await anyio.sleep(40.0)
        account.add("job-1", name="nightly tags", model="llama-3")
        account.add("job-2", name="nightly tags", model="qwen")
        account.add("job-3", name="a test", model="llama-3")
        await anyio.sleep(500.0)

    assert account.ends == ["job-1"]


async def test_named_job_that_ended_before_first_start_is_announced(account: Account):
    """A named job is announced even if it had ended; discovery does not change that."""
    account.add("named", **BRIEF)
    account.add("other", **BRIEF)
    await anyio.sleep(60.0)
    async with account.discovering(POLLER_JOB_IDS="named"):
        await anyio.sleep(100.0)

    assert account.ends == ["named"]


async def test_removed_job_stays_watched_while_discovery_admits_it(account: Account):
    """A job that is named no more stays watched, as if a page had shown it."""
    account.add("job-1", run_seconds=HOUR, name="mine")
    account.add(*(f"other-{number}" for number in range(30)))
    async with account.discovering(POLLER_DISCOVER_NAME="mine") as app:
        app._watchlist.add(["job-1", "other-1"])
        await anyio.sleep(120.0)
        app._watchlist.remove(["job-1", "other-1"])
        await anyio.sleep(1.2 * HOUR)

    assert account.ends == ["job-1"]


async def test_rejected_key_is_probed_by_the_list(account: Account):
    """Without a job to poll, the list itself shows that the API accepts the key again."""
    async with account.discovering(POLLER_WEBHOOK_EVENTS="*"):
        await anyio.sleep(100.0)
        account.api.key = "sk_other"
        await anyio.sleep(300.0)
        rejected = [event["type"] for event in account.receiver.events]
        account.api.key = KEY
        account.add("job-1")
        await anyio.sleep(2_000.0)

    assert rejected == ["poller.auth_failed"]
    assert account.receiver.types[1:] == ["poller.auth_recovered", "job.started", "job.succeeded"]


async def test_discovery_without_a_list_retries_every_hour(account: Account, capsys):
    """An API without a list is logged, and tried again every hour."""
    account.api.faults.append(Fault(status=404, count=3, path="list-jobs"))
    async with account.discovering():
        await anyio.sleep(2.5 * HOUR)
        account.add("job-1")
        await anyio.sleep(HOUR)

    assert account.ends == ["job-1"]


async def test_discovery_ignores_an_absurd_date_header(account: Account, monkeypatch):
    """A Date at the end of time is not believed: the jobs are found all the same."""
    junk = "Fri, 31 Dec 9999 23:59:59 GMT"
    monkeypatch.setattr(simulator, "formatdate", lambda *_, **__: junk)
    async with account.discovering():
        await anyio.sleep(40.0)
        account.add("job-1")
        await anyio.sleep(400.0)

    assert account.ends == ["job-1"]


BORN = START + timedelta(days=1)
NOW = BORN + timedelta(days=2)


@pytest.mark.parametrize(
    ("fields", "is_admitted"),
    [
        ({"status": "RUNNING", "datetime_created": NOW}, True),
        ({"status": "RUNNING", "datetime_created": None}, True),
        ({"status": "RUNNING", "datetime_created": NOW - timedelta(days=8)}, False),
        ({"status": "FAILED", "datetime_completed": BORN + timedelta(seconds=1)}, True),
        ({"status": "FAILED", "datetime_completed": BORN - timedelta(seconds=1)}, False),
        ({"status": "FAILED", "datetime_completed": None, "datetime_created": NOW}, True),
        ({"status": "FAILED", "datetime_completed": None}, False),
        ({"status": "FAILED", "datetime_started": NOW}, True),
        ({"status": "FAILED", "datetime_created": START, "datetime_started": NOW}, True),
        ({"status": "FAILED", "datetime_created": START}, False),
    ],
)
def test_discovery_filter_admits(fields: dict[str, Any], is_admitted: bool):
    """Young jobs are admitted while they run, or if they ended since the first start."""
    written = {
        key: it.isoformat() if hasattr(it, "isoformat") else it for key, it in fields.items()
    }

    assert DiscoveryFilter().admits(a_job(**written), now=NOW, started_at=BORN) is is_admitted


async def test_discovery_finds_an_end_again_after_a_lost_database(account: Account):
    """An event that waited in a lost database is found again, however far down the list."""
    account.receiver.status = 503
    async with account.discovering(POLLER_DISCOVER_NAME="mine"):
        await anyio.sleep(40.0)
        account.add("job-1", name="mine", **BRIEF)
        await anyio.sleep(60.0)
        account.add(*(f"other-{number}" for number in range(150)))
        await anyio.sleep(60.0)
        account.path.unlink()
        account.receiver.status = 200
        await anyio.sleep(600.0)

    assert account.ends == ["job-1"]


async def test_discovery_keeps_its_start_after_a_lost_database(account: Account):
    """A database that is created while the daemon runs has the age of the one before."""
    async with account.discovering():
        await anyio.sleep(60.0)
        account.path.unlink()
        await anyio.sleep(60.0)
    account.add("brief", **BRIEF)
    await anyio.sleep(60.0)
    async with account.discovering():
        await anyio.sleep(60.0)

    assert account.ends == ["brief"]


async def test_discovery_ignores_jobs_completed_before_first_start_at_a_deployment(
    account: Account,
):
    """Jobs that had ended before the daemon first polled a deployment are not reported for it."""
    async with account.discovering():
        await anyio.sleep(60.0)
    first, account.host = account.host, a_host()
    account.add(*(f"old-{number}" for number in range(30)), **BRIEF)
    await anyio.sleep(60.0)
    async with account.discovering():
        await anyio.sleep(60.0)
    account.add("new", **BRIEF)
    await anyio.sleep(60.0)
    async with account.discovering():
        await anyio.sleep(60.0)
    at_second, account.host = list(account.ends), first
    async with account.discovering():
        await anyio.sleep(60.0)

    assert at_second == ["new"]
    assert len(set(account.ends)) == 31


async def test_discovery_ignores_jobs_completed_before_a_filter_was_set(account: Account):
    """A filter that is set later finds no old ends; the first one goes on where it stopped."""
    async with account.discovering(POLLER_DISCOVER_NAME="a*"):
        await anyio.sleep(60.0)
    account.add("old-b", name="b", **BRIEF)
    account.add("old-a", name="a", **BRIEF)
    await anyio.sleep(60.0)
    async with account.discovering(POLLER_DISCOVER_NAME="b*"):
        await anyio.sleep(60.0)
        account.add("new-b", name="b", **BRIEF)
        await anyio.sleep(60.0)
    async with account.discovering(POLLER_DISCOVER_NAME="a*"):
        await anyio.sleep(60.0)

    assert account.ends == ["new-b", "old-a"]


async def test_discovery_goes_on_from_the_start_of_an_older_version(account: Account):
    """The start that a database of an older version has is that of the first filter only."""
    async with account.discovering():
        pass
    with closing(sqlite3.connect(account.path)) as db, db:
        db.execute("UPDATE flags SET name = 'born' WHERE name LIKE 'born %'")
    account.add("old", name="old", **BRIEF)
    account.add("new", name="new", **BRIEF)
    await anyio.sleep(60.0)
    async with account.discovering(POLLER_DISCOVER_NAME="new*"):
        await anyio.sleep(60.0)
    async with account.discovering(POLLER_DISCOVER_NAME="old*"):
        await anyio.sleep(60.0)

    assert account.ends == ["new"]


@pytest.mark.virtual(limit=1_000_000.0)
async def test_discovered_job_that_was_given_up_is_found_again():
    """A discovered job that was missing for a week is found once a page shows it again."""
    clock, store = virtual_clock(), a_memory_store()
    watcher = a_watcher(FakeSource(clock), store, clock)
    await watcher.discover(lambda _job: True)
    await watcher.watch([])
    shown = partial(Observation, "job-1", result=running(), from_list=True)
    absent = partial(Observation, "job-1", result=NotFound("404"))
    await watcher.ingest([shown(requested_at=clock.steady())])
    for seconds in (100.0, 200.0, 300.0, 8 * DAY):
        await anyio.sleep(seconds)
        await watcher.ingest([absent(requested_at=clock.steady())])
    is_given_up = "job-1" not in watcher.tracker
    await watcher.ingest([shown(requested_at=clock.steady())])

    assert is_given_up
    assert recorded_types(store) == ["job.started", "job.missing", "job.found"]


async def test_discovered_job_survives_a_lost_database():
    """A discovered job stays watched when the store starts anew, whatever is named then."""
    clock, store = virtual_clock(), a_memory_store()
    watcher = a_watcher(FakeSource(clock), store, clock)
    await watcher.discover(lambda _job: True)
    await watcher.watch([])
    await watcher.ingest([Observation("job-1", clock.steady(), running(), from_list=True)])

    await watcher.resync()
    await watcher.watch(["job-2"])

    assert "job-1" in watcher._scheduler
    assert "job-2" in watcher._scheduler
