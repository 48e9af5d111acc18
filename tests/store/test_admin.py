"""The operator's queries and repairs of a database, beside the daemon that uses it."""

import fcntl
import os
import sqlite3
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from poller.core.errors import NoMatch, StoreUnavailable, StoreUnusable
from poller.core.events import checksum
from poller.core.job_status import JobStatus
from poller.core.outbox import WriteBatch
from poller.core.parsing import parse_job
from poller.core.routing import Route
from poller.core.state import Phase
from poller.store import admin as admin_module
from poller.store import file_lock
from poller.store.admin import StoreAdmin
from poller.store.filters import EventFilter
from poller.store.sqlite import SqliteStore
from tests.support.builders import a_job_object
from tests.support.store_builders import (
    DAY,
    HOOK,
    LOG,
    NOON,
    ManualClock,
    a_state,
    a_store,
    an_event,
    dead,
    deferred,
    delivered,
    due,
    event_ids,
)

ANOTHER_DAY = {
    "datetime_created": "2024-01-16T10:30:00Z",
    "datetime_completed": "2024-01-16T10:32:15Z",
}
DEAD = EventFilter(state="dead")


@pytest.fixture
def admin(path: Path, now: ManualClock) -> StoreAdmin:
    """Return the admin of the database of `disk`."""
    return StoreAdmin(path, now)


async def dead_letter(store: SqliteStore, *names: str) -> None:
    """Record events whose delivery to the webhook fails permanently."""
    await store.write(WriteBatch(events=[an_event(name, f"job-{name}") for name in names]))
    await store.settle([dead(delivery) for delivery in await due(store, NOON)])


def ended(job_id: str, **fields) -> object:
    """Return the state of an ended job."""
    job = parse_job(a_job_object(job_id=job_id, **fields))
    return a_state(job_id, phase=Phase.DONE, status=job.status, job=job)


async def test_replay_sends_the_same_event_as_a_replay(
    disk: SqliteStore, admin: StoreAdmin, now: ManualClock
):
    """A delivered event is due again with the same bytes, as a replay without failures."""
    await disk.write(WriteBatch(events=[an_event()]))
    (first,) = await due(disk, NOON)
    await disk.settle([deferred(first, NOON)])
    await disk.settle([delivered(first)])
    now.advance(8 * DAY)

    (row,) = admin.replay(EventFilter(event_ids=["evt_1"]))

    (again,) = await due(disk, now())
    assert row["skipped_reason"] is None
    assert again.event == first.event
    assert (again.is_replay, again.attempts, again.created_at) == (True, 0, now())


async def test_replay_is_due_by_the_clock_of_the_daemon(disk: SqliteStore, path: Path):
    """After a sleep of the machine the daemon's clock is behind; a replay does not wait for it."""
    await dead_letter(disk, "1")

    list(StoreAdmin(path, lambda: NOON + DAY).replay(DEAD))

    assert await event_ids(disk, NOON) == ["evt_1"]


async def test_enabled_sink_gets_its_events_by_the_clock_of_the_daemon(
    disk: SqliteStore, path: Path
):
    """What a command restores is due at once, also when the daemon's clock is behind."""
    await disk.write(WriteBatch(events=[an_event("1")]))
    await disk.disable_sink(HOOK, "410")

    list(StoreAdmin(path, lambda: NOON + DAY).enable_sink(HOOK) or ())

    assert await event_ids(disk, NOON) == ["evt_1"]


async def test_replay_reaches_a_sink_without_a_delivery(disk: SqliteStore, admin: StoreAdmin):
    """With a sink, the event is replayed to that sink alone, even if it had no delivery."""
    await disk.write(WriteBatch(events=[an_event()]))
    await disk.settle([delivered(delivery) for delivery in await due(disk, NOON)])

    list(admin.replay(EventFilter(event_ids=["evt_1"], sink=LOG)))

    assert await event_ids(disk, NOON, LOG) == ["evt_1"]
    assert await event_ids(disk, NOON, HOOK) == []


async def test_replay_skips_a_pending_delivery(disk: SqliteStore, admin: StoreAdmin):
    """A pending delivery is not started again, and the reason is returned."""
    await disk.write(WriteBatch(events=[an_event()]))

    (row,) = admin.replay(EventFilter(event_ids=["evt_1"]))

    assert row["skipped_reason"] == "already pending"
    assert not (await due(disk, NOON))[0].is_replay


async def test_replay_skips_a_disabled_sink(disk: SqliteStore, admin: StoreAdmin):
    """A dead letter of a disabled sink stays dead, and the reason names the remedy."""
    await dead_letter(disk, "1")
    await disk.disable_sink(HOOK, "410")

    (row,) = admin.replay(DEAD)

    assert row["skipped_reason"] == "the sink is disabled: enable it first"
    assert len([*admin.deliveries(DEAD)]) == 1


async def test_replay_skips_an_unconfigured_sink(path: Path, now: ManualClock):
    """A dead letter of a sink that is not configured any more stays dead."""
    async with a_store(path, now) as store:
        await dead_letter(store, "1")
    async with a_store(path, now, routes={LOG: Route(types=frozenset({"job.started"}))}):
        pass

    (row,) = StoreAdmin(path, now).replay(DEAD)

    assert row["skipped_reason"] == "the sink is not configured"


async def test_replay_of_dead_letters_spares_delivered_events(disk: SqliteStore, admin: StoreAdmin):
    """A filter for dead letters does not match delivered events."""
    await dead_letter(disk, "1")
    await disk.write(WriteBatch(events=[an_event("2", "job-2")]))
    await disk.settle([delivered(delivery) for delivery in await due(disk, NOON)])

    list(admin.replay(DEAD))

    assert await event_ids(disk, NOON) == ["evt_1"]


@pytest.mark.parametrize(
    "wanted",
    [
        EventFilter(job="job-2"),
        EventFilter(event_ids=["evt_2"]),
        EventFilter(type="job.failed"),
        EventFilter(sink=LOG),
        EventFilter(since=NOON + 1),
    ],
    ids=["job", "id", "type", "sink", "since"],
)
async def test_delete_dead_letters_follows_the_filter(
    disk: SqliteStore, admin: StoreAdmin, now: ManualClock, wanted: EventFilter
):
    """Each filter limits the deliveries that are deleted; the others stay dead."""
    await dead_letter(disk, "1")
    now.advance(5)
    await disk.write(WriteBatch(events=[an_event("2", "job-2", type="job.failed")]))
    await disk.settle([dead(delivery) for delivery in await due(disk, now(), LOG)])
    if wanted.sink is None:
        await disk.settle([dead(delivery) for delivery in await due(disk, now())])
    before = len([*admin.deliveries(DEAD)])

    deleted = [*admin.delete_dead_letters(wanted)]

    assert {row["event_id"] for row in deleted} == {"evt_2"}
    assert len([*admin.deliveries(DEAD)]) == before - len(deleted)


async def test_delete_dead_letters_spares_other_deliveries(disk: SqliteStore, admin: StoreAdmin):
    """Neither pending nor delivered events can be deleted."""
    await disk.write(WriteBatch(events=[an_event()]))

    assert [*admin.delete_dead_letters(EventFilter(event_ids=["evt_1"]))] == []
    assert await event_ids(disk, NOON) == ["evt_1"]


async def test_deleted_dead_letter_can_be_replayed(disk: SqliteStore, admin: StoreAdmin):
    """Deleting a dead letter deletes the delivery, not the event."""
    await dead_letter(disk, "1")
    list(admin.delete_dead_letters(DEAD))

    list(admin.replay(EventFilter(event_ids=["evt_1"], sink=HOOK)))

    assert await event_ids(disk, NOON) == ["evt_1"]


async def test_enable_sink_restores_its_backlog(disk: SqliteStore, admin: StoreAdmin):
    """The backlog of a disabled sink is pending again; earlier dead letters stay dead."""
    await dead_letter(disk, "1")
    await disk.write(WriteBatch(events=[an_event("2", "job-2")]))
    await disk.disable_sink(HOOK, "410")

    back = [*(admin.enable_sink(HOOK) or ())]

    assert [row["event_id"] for row in back or ()] == ["evt_2"]
    assert await event_ids(disk, NOON) == ["evt_2"]
    assert [row["event_id"] for row in admin.deliveries(DEAD)] == ["evt_1"]


async def test_enable_sink_returns_none_if_enabled(disk: SqliteStore, admin: StoreAdmin):
    """Enabling an enabled sink changes nothing, and returns None."""
    await dead_letter(disk, "1")

    assert admin.enable_sink(HOOK) is None


async def test_status_counts(disk: SqliteStore, admin: StoreAdmin, now: ManualClock):
    """The status has jobs by state, and the backlog, its age and the dead letters of each sink."""
    states = [a_state("a", status=JobStatus.RUNNING), a_state("b", phase=Phase.MISSING)]
    await dead_letter(disk, "1")
    await disk.write(WriteBatch(states=states, events=[an_event("2", "job-2")]))
    await disk.settle([deferred(delivery, NOON, "HTTP 500") for delivery in await due(disk, NOON)])
    now.advance(60)
    await disk.write(WriteBatch(events=[an_event("3", "job-3")], flags={"auth": "rejected 1"}))

    status = admin.status()

    assert status.is_key_rejected
    assert status.size > 0
    assert status.jobs == {"MISSING": 1, "RUNNING": 1}
    assert status.sinks[1] == {
        "sink": HOOK,
        "state": "enabled",
        "pending": 2,
        "oldest_at": "2024-01-15T12:00:00Z",
        "dead": 1,
        "failing_since": None,
        "reason": "HTTP 500",
    }


async def test_status_reports_a_running_daemon(path: Path, now: ManualClock):
    """A database is locked while a store has it open, and a query does not keep it locked."""
    async with a_store(path, now):
        assert StoreAdmin(path).status().is_running
    assert not StoreAdmin(path).status().is_running
    async with a_store(path, now):
        pass


async def test_status_does_not_block_a_start(
    path: Path, now: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    """A daemon that starts while `status` tries the lock retries, and gets it."""
    lock = path.with_name("state.db.lock")
    with lock.open("w") as probe:
        fcntl.flock(probe, fcntl.LOCK_SH)
        monkeypatch.setattr(file_lock.time, "sleep", lambda _: probe.close())

        async with a_store(path, now):
            assert StoreAdmin(path).status().is_running


OPEN_AND_CLOSE = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("SELECT count(*) FROM events").fetchone()
db.close()
"""


async def test_query_in_the_daemon_keeps_its_locks(disk: SqliteStore, path: Path):
    """After a query of the HTTP API, another program that closes the database leaves the WAL."""
    disk.admin().sinks()

    command = [sys.executable, "-c", OPEN_AND_CLOSE, str(path)]
    await anyio.run_process(command)
    is_wal_kept = path.with_name("state.db-wal").exists()
    await disk.write(WriteBatch(events=[an_event("1")]))

    assert is_wal_kept
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT id FROM events").fetchall() == [("evt_1",)]


async def test_status_without_lock_file(path: Path, now: ManualClock):
    """Without a lock file no daemon runs, and a query creates none."""
    async with a_store(path, now):
        pass
    lock = path.with_name("state.db.lock")
    lock.unlink()

    assert not StoreAdmin(path).status().is_running
    assert not lock.exists()


async def test_jobs_are_filtered(disk: SqliteStore, admin: StoreAdmin, now: ManualClock):
    """Jobs are listed last changed first, and filtered by id, state, time and number."""
    await disk.write(WriteBatch(states=[ended("job-1"), a_state("job-12")]))
    now.advance(5)
    await disk.write(WriteBatch(states=[a_state("x", status=JobStatus.RUNNING)]))

    def found(**wanted) -> list[str]:
        return [row["job_id"] for row in admin.jobs(EventFilter(**wanted))]

    assert found() == ["x", "job-12", "job-1"]
    assert found(state="SUCCEEDED") == ["job-1"]
    assert found(since=NOON + 1) == found(limit=1) == ["x"]
    assert found(job="job-1") == ["job-1"]
    assert [row["job_cost"] for row in admin.jobs(EventFilter(job="job-1"))] == [0.0234]


async def test_events_are_filtered(disk: SqliteStore, admin: StoreAdmin, now: ManualClock):
    """Events are listed latest first with their deliveries, and filtered by all keys."""
    await dead_letter(disk, "1")
    now.advance(5)
    await disk.write(WriteBatch(events=[an_event("2", "job-2", type="job.started")]))

    def found(**wanted) -> list[str]:
        return [row["id"] for row in admin.events(EventFilter(**wanted))]

    assert found() == ["evt_2", "evt_1"]
    assert found(job="job-2") == found(type="job.started") == found(sink=LOG) == ["evt_2"]
    assert found(since=NOON + 1) == found(limit=1) == found(state="pending") == ["evt_2"]
    assert found(sink=LOG, state="dead") == []
    assert [row["deliveries"] for row in admin.events(EventFilter(state="dead"))] == [
        [{"sink": HOOK, "status": "dead"}]
    ]


async def test_event_has_its_body_and_deliveries(disk: SqliteStore, admin: StoreAdmin):
    """An event is found by a prefix of its id, with its stored body and its deliveries."""
    await dead_letter(disk, "1")

    event = admin.event("evt")

    assert checksum(event["body"]) == event["digest"]
    assert event["recorded_at"] == "2024-01-15T12:00:00Z"
    assert [(row["sink"], row["status"], row["reason"]) for row in event["deliveries"]] == [
        (HOOK, "dead", "HTTP 400")
    ]


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("evt_", "2 event IDs start with 'evt_', such as evt_1 and evt_2; use a longer prefix"),
        ("evt_9", "no event ID starts with 'evt_9'; list them with `events ls`"),
        ("", "no event ID starts with ''"),
    ],
    ids=["several", "none", "empty"],
)
async def test_id_prefix_must_be_unique(
    disk: SqliteStore, admin: StoreAdmin, prefix: str, message: str
):
    """A prefix of several events, or of none, changes nothing and is an error."""
    await dead_letter(disk, "1", "2")

    with pytest.raises(NoMatch, match=message):
        list(admin.delete_dead_letters(EventFilter(event_ids=[prefix])))
    assert len([*admin.deliveries(DEAD)]) == 2


async def test_unknown_sink_is_an_error(disk: SqliteStore, admin: StoreAdmin):
    """An unknown sink gives an error with the known names, not an empty list."""
    with pytest.raises(NoMatch, match="no sink is named 'hook'; known sinks: log, webhook"):
        list(admin.deliveries(EventFilter(sink="hook")))


async def test_costs_are_exact(disk: SqliteStore, admin: StoreAdmin):
    """Costs are the API's decimals, or None where it has none."""
    costs = {"a": 0.1, "b": 5e-05, "c": None}
    jobs = [ended(name, name=name, job_cost=cost) for name, cost in costs.items()]
    await disk.write(WriteBatch(states=[*jobs, a_state("d", status=JobStatus.RUNNING)]))

    found = {name: sums.cost_usd for name, sums in admin.costs("name").items()}

    assert found == {"a": Decimal("0.1"), "b": Decimal("0.00005"), "c": None}


async def test_costs_count_a_job_once_under_two_names_of_its_deployment(
    path: Path, now: ManualClock, admin: StoreAdmin
):
    """A job counts once at two names of one API; the same id at another API is another job."""
    again, other = ended("a", job_cost=0.1), ended("a", job_cost=0.2, **ANOTHER_DAY)
    for deployment, state in (("first", again), ("second", again), ("third", other)):
        async with a_store(path, now, deployment=deployment) as store:
            await store.write(WriteBatch(states=[state]))

    found = {day: (sums.jobs, sums.cost_usd) for day, sums in admin.costs("day").items()}
    assert found == {"2024-01-15": (1, Decimal("0.1")), "2024-01-16": (1, Decimal("0.2"))}


async def test_ended_at_falls_back_to_the_observation(disk: SqliteStore, admin: StoreAdmin):
    """A job ended when the API says so, else when its end was observed."""
    late = ended("late", name="late", datetime_completed=None)
    await disk.write(WriteBatch(states=[late, ended("early", name="early")]))

    assert admin.costs("name").keys() == {"late", "early"}
    assert admin.costs("name", NOON).keys() == {"late"}
    assert admin.costs("name", NOON + 1) == {}


async def test_change_waits_for_a_writer(
    disk: SqliteStore, admin: StoreAdmin, path: Path, monkeypatch: pytest.MonkeyPatch
):
    """While another process writes, a query works; a change waits, then reports it."""
    await dead_letter(disk, "1")
    monkeypatch.setattr(admin_module, "BUSY_TIMEOUT", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        listed = [*admin.deliveries(DEAD)]
        with pytest.raises(StoreUnavailable, match="another process is writing to it; try again"):
            list(admin.delete_dead_letters(DEAD))

    assert len(listed) == len([*admin.deliveries(DEAD)]) == 1


def test_missing_file_is_not_created(path: Path):
    """Without a database there is one clear line, and still no database."""
    with pytest.raises(StoreUnusable, match=r"state.db does not exist; use the same POLLER_STORE"):
        StoreAdmin(path).status()
    assert not path.exists()


def test_inaccessible_path_is_an_error(path: Path):
    """A path below a file is an error with the system's own text."""
    path.write_text("", "utf-8")

    with pytest.raises(
        StoreUnusable, match=r"cannot be read \(Not a directory\); run this command as the user"
    ):
        StoreAdmin(path / "state.db").status()


async def test_database_of_another_user_is_an_error(path: Path, now: ManualClock):
    """If SQLite cannot create its files beside the database, the error names the user to use."""
    async with a_store(path, now):
        pass
    path.with_name("state.db-wal").mkdir()

    with pytest.raises(
        StoreUnusable, match=r"\(unable to open database file\); run this command as the user"
    ):
        StoreAdmin(path).status()


def test_foreign_file_is_an_error(path: Path):
    """A file that is not a database is an error; one that a daemon has used is damaged."""
    path.write_text("no database, whatever its name is" * 100, "utf-8")
    with pytest.raises(StoreUnusable, match="it is not a database; use another path"):
        StoreAdmin(path).status()
    path.with_name(f"{path.name}.lock").touch()

    with pytest.raises(StoreUnusable, match="`sutro-poller run` renames it"):
        StoreAdmin(path).status()


async def test_database_on_a_read_only_volume_is_read(
    path: Path, now: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    """A database at rest on a read-only volume is read without the files that SQLite would need."""
    async with a_store(path, now):
        pass
    read_only = os.statvfs_result((*os.statvfs(path)[:8], os.ST_RDONLY, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: read_only)

    assert StoreAdmin(path).status().jobs == {}
    assert not path.with_name("state.db-shm").exists()


def test_directory_is_an_error(tmp_path: Path):
    """A path of a directory is an error that says so."""
    with pytest.raises(StoreUnusable, match="is a directory; use the same POLLER_STORE"):
        StoreAdmin(tmp_path).status()


def test_foreign_database_is_an_error(path: Path):
    """For the database of another program, the advice is not to start the daemon on it."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")

    with pytest.raises(StoreUnusable, match="is the database of another program; use the same"):
        StoreAdmin(path).status()


@pytest.mark.parametrize(
    ("version", "message"),
    [(99, "a newer version of this program"), (0, "an older version; start `sutro-poller run`")],
)
def test_other_schema_versions_are_an_error(path: Path, version: int, message: str):
    """A file of another version is neither read nor changed."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("CREATE TABLE identity (x)")

    with pytest.raises(StoreUnusable, match=message):
        StoreAdmin(path).enable_sink(HOOK)


async def test_change_leaves_the_checkpoint_to_the_daemon(
    disk: SqliteStore, admin: StoreAdmin, path: Path
):
    """However much a command writes, the daemon alone moves it to the database file.

    Two that do so at once may damage the file, in SQLite before 3.51.3.
    """
    sizes = [size(path)]
    for _ in range(2):
        admin.change(
            lambda db: db.execute("INSERT INTO flags VALUES (random(), printf('%*d', 5000000, 1))")
        )
    sizes.append(size(path))
    await disk.write(WriteBatch(flags={"any": "text"}))
    sizes.append(size(path))

    assert sizes[0] == sizes[1] < 10_000_000 < sizes[2]


def size(path: Path) -> int:
    """Return the size of a file."""
    return path.stat().st_size
