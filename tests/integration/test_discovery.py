"""Jobs that nobody named are found in the account's list, and watched to their end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from poller.app import App
from poller.config import Config
from poller.polling.discovery import DiscoveryFilter
from poller.runtime.clock import Clock
from poller.store.sqlite import SqliteStore
from poller.sutro.port import Observation
from poller.sutro.simulator import server as simulator
from poller.sutro.simulator.requests import Fault
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, application
from tests.support.builders import a_job
from tests.support.fakes import FakeSource, a_watcher, running
from tests.support.fakes import a_store as a_memory_store
from tests.support.running_app import KEY, Receiver, an_app, living, served, served_app
from tests.support.virtual_time import START, virtual_clock

pytestmark = pytest.mark.virtual(limit=40_000.0)

HOUR: Final = 3_600.0
DAY: Final = 24 * HOUR
BRIEF: Final = {"queue_seconds": 0.0, "run_seconds": 1.0}


class Account:
    """An account, a receiver, and the daemons that watch the one for the other in turn."""

    def __init__(self, folder: Path) -> None:
        self.clock: Clock = virtual_clock()
        self.api = Simulator(now=self.clock.steady, key=KEY)
        self.receiver = Receiver()
        self.path = folder / "state.db"

    def add(self, *job_ids: str, **fields: Any) -> None:
        """Submit jobs that run for five minutes unless told otherwise."""
        for job_id in job_ids:
            given = {"queue_seconds": 0.0, "run_seconds": 300.0} | fields
            self.api.add(JobScript(job_id=job_id, **given))

    @property
    def ends(self) -> list[str]:
        """Name the jobs whose ends came, in order."""
        return [event["data"]["job"]["job_id"] for event in self.receiver.events]

    @property
    def pages(self) -> int:
        """Count the pages that were asked for."""
        return self.api.requests["list-jobs"]

    @asynccontextmanager
    async def discovering(self, **changes: str) -> AsyncIterator[App]:
        """Let a daemon that nobody named a job to live while the block runs."""
        given = {"POLLER_JOB_IDS": "", "POLLER_DISCOVER": "on", "POLLER_STORE": str(self.path)}
        async with (
            served_app(application(self.api)) as url,
            served(self.receiver.take) as hook,
            living(
                an_app(f"{url}/v1", hook, clock=self.clock, new_store=a_store, **(given | changes))
            ) as app,
        ):
            yield app
            await anyio.sleep(1.0)  # what was seen last is told


def a_store(config: Config, clock: Clock) -> SqliteStore:
    """Make a store on disk for virtual time, which knows no threads."""
    routes = {sink.name: sink.events for sink in config.sinks}
    return SqliteStore(
        Path(config.settings.store),
        routes=routes,
        deployment="test",
        now=clock.steady,
        in_thread=False,
    )


@pytest.fixture
async def account(tmp_path: Path) -> Account:
    """Give an account without jobs."""
    return Account(tmp_path)


async def test_a_new_job_is_watched_to_its_end(account: Account):
    """A job that is submitted while the daemon runs is told of, though nobody named it."""
    async with account.discovering():
        await anyio.sleep(100.0)
        account.add("job-1")
        await anyio.sleep(400.0)

    assert account.ends == ["job-1"]


async def test_a_job_that_ends_before_it_is_seen(account: Account):
    """A job that began and ended between two looks at the list is told of."""
    async with account.discovering():
        await anyio.sleep(35.0)
        account.add("job-1", **(BRIEF))
        await anyio.sleep(60.0)

    assert account.ends == ["job-1"]


async def test_what_ended_before_is_no_news(account: Account):
    """Ten thousand old jobs are no events, and cost a page a hundred; one that runs is watched."""
    account.add("long", run_seconds=2 * HOUR)
    for number in range(10_000):
        account.add(f"old-{number}", queue_seconds=0.0, run_seconds=0.5)
    await anyio.sleep(60.0)
    async with account.discovering(POLLER_REQUESTS_PER_MINUTE="600"):
        await anyio.sleep(60.0)
        at_start = account.pages
        await anyio.sleep(2 * HOUR)

    assert account.ends == ["long"]
    assert at_start <= 105
    assert account.pages - at_start <= 245


async def test_an_idle_account_costs_a_page_every_half_minute(account: Account):
    """While nothing is new each look at the list is one request."""
    account.add(*(f"old-{number}" for number in range(150)), run_seconds=1.0)
    await anyio.sleep(10.0)
    async with account.discovering():
        await anyio.sleep(HOUR)

    assert account.pages <= 124


@pytest.mark.slow
async def test_many_new_jobs_at_once(account: Account):
    """More new jobs than a page shows are all found."""
    async with account.discovering(POLLER_REQUESTS_PER_MINUTE="600"):
        await anyio.sleep(45.0)
        account.add(*(f"job-{number}" for number in range(350)))
        await anyio.sleep(500.0)

    assert len(account.ends) == len(set(account.ends)) == 350


async def test_a_failing_page_hides_no_job(account: Account):
    """When the reading of several pages breaks off, what was not reached is read again."""
    async with account.discovering(POLLER_REQUESTS_PER_MINUTE="600"):
        await anyio.sleep(45.0)
        account.add(*(f"job-{number}" for number in range(350)))
        await anyio.sleep(16.1)  # the second of four pages has come
        account.api.fault(Fault(status=500, count=3, path="list-jobs"))
        await anyio.sleep(600.0)

    assert len(set(account.ends)) == 350


async def test_a_restart_tells_what_ended_meanwhile(account: Account):
    """What ran, came or went while no daemon lived is told by the next one, and nothing twice."""
    async with account.discovering():
        await anyio.sleep(10.0)
        account.add("told", run_seconds=60.0)
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

    assert before == ["told"]
    assert sorted(meanwhile) == ["brief", "ends"]
    assert account.ends[len(before) + len(meanwhile) :] == ["runs"]


async def test_a_running_job_is_watched_past_the_window(account: Account):
    """A job that was found stays watched when it is older than new ones may be."""
    async with account.discovering(POLLER_DISCOVER_MAX_AGE="10m"):
        account.add("long", run_seconds=2 * HOUR)
        await anyio.sleep(60.0)
    await anyio.sleep(1 * HOUR)
    async with account.discovering(POLLER_DISCOVER_MAX_AGE="10m"):
        await anyio.sleep(1.2 * HOUR)

    assert account.ends == ["long"]


@pytest.mark.parametrize("days", [8, -8, 10_000])
async def test_a_wall_clock_that_is_put_right(account: Account, days: int):
    """A clock that is wrong when the daemon begins, and set later, hides no job."""
    off = -days * DAY
    account.clock = Clock(anyio.current_time, lambda: virtual_clock().steady() + off)
    async with account.discovering():
        await anyio.sleep(100.0)
        off = 0.0
        account.add("runs")
        account.add("brief", **BRIEF)
        await anyio.sleep(600.0)

    assert sorted(account.ends) == ["brief", "runs"]


async def test_a_birth_that_lies_ahead(account: Account):
    """A daemon that began while the clock was years ahead finds jobs when it is right again."""
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


async def test_a_machine_that_sleeps(account: Account):
    """What came and went while the machine slept, and its steady clock stood still, is told."""
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


async def test_filters(account: Account):
    """Only jobs whose name and model fit are watched."""
    async with account.discovering(
        POLLER_DISCOVER_NAME="nightly *", POLLER_DISCOVER_MODEL="llama*"
    ):
        await anyio.sleep(40.0)
        account.add("job-1", name="nightly tags", model="llama-3")
        account.add("job-2", name="nightly tags", model="qwen")
        account.add("job-3", name="a test", model="llama-3")
        await anyio.sleep(500.0)

    assert account.ends == ["job-1"]


async def test_a_named_job_is_told_though_it_ended_before(account: Account):
    """What was configured is told even if it had ended; discovery takes nothing from that."""
    account.add("named", **BRIEF)
    account.add("other", **BRIEF)
    await anyio.sleep(60.0)
    async with account.discovering(POLLER_JOB_IDS="named"):
        await anyio.sleep(100.0)

    assert account.ends == ["named"]


async def test_a_job_that_is_named_no_more_is_found(account: Account):
    """A job that was named for a while is watched on, as if a page had shown it."""
    account.add("job-1", run_seconds=HOUR, name="mine")
    account.add(*(f"other-{number}" for number in range(30)))
    async with account.discovering(POLLER_DISCOVER_NAME="mine") as app:
        app._watchlist.add(["job-1", "other-1"])
        await anyio.sleep(120.0)
        app._watchlist.remove(["job-1", "other-1"])
        await anyio.sleep(1.2 * HOUR)

    assert account.ends == ["job-1"]


async def test_a_refused_key_is_tried_by_the_list(account: Account):
    """With no job to ask about, the list itself shows how the API accepted the API key."""
    async with account.discovering(POLLER_WEBHOOK_EVENTS="*"):
        await anyio.sleep(100.0)
        account.api.key = "sk_other"
        await anyio.sleep(300.0)
        refused = [event["type"] for event in account.receiver.events]
        account.api.key = KEY
        account.add("job-1")
        await anyio.sleep(2_000.0)

    assert refused == ["poller.auth_failed"]
    assert account.receiver.types[1:] == ["poller.auth_recovered", "job.started", "job.succeeded"]


async def test_a_list_that_is_refused(account: Account, capsys):
    """Without a list nothing can be found: that is said, and tried again every hour."""
    account.api.fault(Fault(status=404, count=3, path="list-jobs"))
    async with account.discovering():
        await anyio.sleep(2.5 * HOUR)
        account.add("job-1")
        await anyio.sleep(HOUR)

    assert account.ends == ["job-1"]


async def test_a_date_at_the_end_of_time_ends_nothing(account: Account, monkeypatch):
    """What such a Date says of the API's clock is not believed: its jobs are found all the same."""
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
    ],
)
def test_admission(fields: dict[str, Any], is_admitted: bool):
    """What runs and is not too old is admitted, and what ended since the daemon first ran."""
    written = {
        key: it.isoformat() if hasattr(it, "isoformat") else it for key, it in fields.items()
    }

    assert DiscoveryFilter().admits(a_job(**written), now=NOW, started_at=BORN) is is_admitted


async def test_a_found_end_outlives_a_lost_database(account: Account):
    """What waits in a database that is lost is found again, however far down the list it is."""
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


async def test_a_lost_database_makes_nothing_old_news(account: Account):
    """A database that is begun while the daemon runs has the age of the one before."""
    async with account.discovering():
        await anyio.sleep(60.0)
        account.path.unlink()
        await anyio.sleep(60.0)
    account.add("brief", **BRIEF)
    await anyio.sleep(60.0)
    async with account.discovering():
        await anyio.sleep(60.0)

    assert account.ends == ["brief"]


async def test_a_found_job_outlives_a_lost_database():
    """A job that was found is watched on when the store begins anew, whoever else is named then."""
    clock, store = virtual_clock(), a_memory_store()
    watcher = a_watcher(FakeSource(clock), store, clock)
    await watcher.discover(lambda _job: True)
    await watcher.watch([])
    await watcher.ingest([Observation("job-1", clock.steady(), running(), from_list=True)])

    await watcher.resync()
    await watcher.watch(["job-2"])

    assert "job-1" in watcher._scheduler
    assert "job-2" in watcher._scheduler
