"""The operator's desk reads and changes a database beside the daemon that has it."""

import fcntl
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from poller.core.errors import NoMatch, StoreUnavailable, StoreUnusable
from poller.core.events import checksum
from poller.core.jobs import JobStatus
from poller.core.outbox import WriteBatch
from poller.core.parsing import parse_job
from poller.core.state import Phase
from poller.store import admin as desk_module
from poller.store import database
from poller.store.admin import EventFilter, StoreAdmin
from poller.store.sqlite import SqliteStore
from tests.support.builders import a_job_object
from tests.support.store_builders import (
    DAY,
    HOOK,
    LOG,
    NOON,
    Hands,
    a_state,
    a_store,
    an_event,
    buried,
    delivered,
    due,
    event_ids,
    postponed,
)

DEAD = EventFilter(state="dead")


@pytest.fixture
def admin(path: Path, now: Hands) -> StoreAdmin:
    """Give a desk for the database of `disk`."""
    return StoreAdmin(path, now)


async def bury(store: SqliteStore, *names: str) -> None:
    """Record events for the webhook that it refuses for good."""
    await store.write(WriteBatch(events=[an_event(it, f"job-{it}") for it in names]))
    await store.settle([buried(it) for it in await due(store, NOON)])


def ended(job_id: str, **fields) -> object:
    """Give the state of a job that has ended."""
    job = parse_job(a_job_object(job_id=job_id, **fields))
    return a_state(job_id, phase=Phase.DONE, status=job.status, job=job)


async def test_replay_is_the_same_event_marked_as_one(
    disk: SqliteStore, admin: StoreAdmin, now: Hands
):
    """A delivered event is due again with the bytes it had, as a replay with no past."""
    await disk.write(WriteBatch(events=[an_event()]))
    (first,) = await due(disk, NOON)
    await disk.settle([postponed(first, NOON)])
    await disk.settle([delivered(first)])
    now.turn(8 * DAY)

    (told,) = admin.replay(EventFilter(event_ids=["evt_1"]))

    (again,) = await due(disk, now())
    assert told["skipped_reason"] is None
    assert again.event == first.event
    assert (again.is_replay, again.attempts, again.created_at) == (True, 0, now())


async def test_replay_reaches_a_sink_that_never_got_it(disk: SqliteStore, admin: StoreAdmin):
    """With a sink named, the event goes there and nowhere else."""
    await disk.write(WriteBatch(events=[an_event()]))
    await disk.settle([delivered(it) for it in await due(disk, NOON)])

    admin.replay(EventFilter(event_ids=["evt_1"], sink=LOG))

    assert await event_ids(disk, NOON, LOG) == ["evt_1"]
    assert await event_ids(disk, NOON, HOOK) == []


async def test_pending_event_is_left_alone(disk: SqliteStore, admin: StoreAdmin):
    """What is pending already is not begun anew, and that is said."""
    await disk.write(WriteBatch(events=[an_event()]))

    (told,) = admin.replay(EventFilter(event_ids=["evt_1"]))

    assert told["skipped_reason"] == "already pending"
    assert not (await due(disk, NOON))[0].is_replay


async def test_disabled_sink_gets_no_replay(disk: SqliteStore, admin: StoreAdmin):
    """A dead letter of a disabled sink stays one, and it is said what to do first."""
    await bury(disk, "1")
    await disk.disable_sink(HOOK, "410")

    (told,) = admin.replay(DEAD)

    assert told["skipped_reason"] == "the sink is disabled: enable it first"
    assert len(admin.deliveries(DEAD)) == 1


async def test_sink_that_left_gets_no_replay(path: Path, now: Hands):
    """Nobody would send a dead letter of a sink that is not configured any more."""
    async with a_store(path, now) as store:
        await bury(store, "1")
    async with a_store(path, now, routes={LOG: frozenset({"job.started"})}):
        pass

    (told,) = StoreAdmin(path, now).replay(DEAD)

    assert told["skipped_reason"] == "the sink is not configured"


async def test_only_dead_letters_are_replayed(disk: SqliteStore, admin: StoreAdmin):
    """A filter for dead letters leaves what was delivered alone."""
    await bury(disk, "1")
    await disk.write(WriteBatch(events=[an_event("2", "job-2")]))
    await disk.settle([delivered(it) for it in await due(disk, NOON)])

    admin.replay(DEAD)

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
async def test_only_what_is_meant_is_dropped(
    disk: SqliteStore, admin: StoreAdmin, now: Hands, wanted: EventFilter
):
    """Each filter narrows what is dropped; the rest stays dead."""
    await bury(disk, "1")
    now.turn(5)
    await disk.write(WriteBatch(events=[an_event("2", "job-2", type="job.failed")]))
    await disk.settle([buried(it) for it in await due(disk, now(), LOG)])
    if wanted.sink is None:
        await disk.settle([buried(it) for it in await due(disk, now())])
    before = len(admin.deliveries(DEAD))

    dropped = admin.delete_dead_letters(wanted)

    assert {it["event_id"] for it in dropped} == {"evt_2"}
    assert len(admin.deliveries(DEAD)) == before - len(dropped)


async def test_drop_spares_what_is_not_dead(disk: SqliteStore, admin: StoreAdmin):
    """Neither what is pending nor what was delivered can be dropped."""
    await disk.write(WriteBatch(events=[an_event()]))

    assert admin.delete_dead_letters(EventFilter(event_ids=["evt_1"])) == []
    assert await event_ids(disk, NOON) == ["evt_1"]


async def test_dropped_event_can_still_be_replayed(disk: SqliteStore, admin: StoreAdmin):
    """Dropping a dead letter forgets the delivery, not the event."""
    await bury(disk, "1")
    admin.delete_dead_letters(DEAD)

    admin.replay(EventFilter(event_ids=["evt_1"], sink=HOOK))

    assert await event_ids(disk, NOON) == ["evt_1"]


async def test_enable_brings_back_what_disabling_buried(disk: SqliteStore, admin: StoreAdmin):
    """The backlog of a disabled sink is pending again; what was dead before stays dead."""
    await bury(disk, "1")
    await disk.write(WriteBatch(events=[an_event("2", "job-2")]))
    await disk.disable_sink(HOOK, "410")

    back = admin.enable_sink(HOOK)

    assert [it["event_id"] for it in back or ()] == ["evt_2"]
    assert await event_ids(disk, NOON) == ["evt_2"]
    assert [it["event_id"] for it in admin.deliveries(DEAD)] == ["evt_1"]


async def test_enabled_sink_cannot_be_enabled(disk: SqliteStore, admin: StoreAdmin):
    """To enable what is enabled changes nothing, and that is said."""
    await bury(disk, "1")

    assert admin.enable_sink(HOOK) is None


async def test_status_counts(disk: SqliteStore, admin: StoreAdmin, now: Hands):
    """Jobs by state, and of each sink the backlog, its age, and the dead."""
    states = [a_state("a", status=JobStatus.RUNNING), a_state("b", phase=Phase.MISSING)]
    await bury(disk, "1")
    await disk.write(WriteBatch(states=states, events=[an_event("2", "job-2")]))
    await disk.settle([postponed(it, NOON, "HTTP 500") for it in await due(disk, NOON)])
    now.turn(60)
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
        "reason": "HTTP 500",
    }


async def test_status_knows_whether_a_daemon_runs(path: Path, now: Hands):
    """A database is held while a store has it open, and may be opened after every look."""
    async with a_store(path, now):
        assert StoreAdmin(path).status().is_running
    assert not StoreAdmin(path).status().is_running
    async with a_store(path, now):
        pass


async def test_a_glance_keeps_no_daemon_from_starting(
    path: Path, now: Hands, monkeypatch: pytest.MonkeyPatch
):
    """A daemon that starts while `status` tries the lock tries once more, and gets it."""
    lock = path.with_name("state.db.lock")
    with lock.open("w") as glance:
        fcntl.flock(glance, fcntl.LOCK_SH)
        monkeypatch.setattr(database.time, "sleep", lambda _: glance.close())

        async with a_store(path, now):
            assert StoreAdmin(path).status().is_running


async def test_a_lost_lock_file_is_no_daemon(path: Path, now: Hands):
    """Without a lock file nobody runs, and looking makes none."""
    async with a_store(path, now):
        pass
    lock = path.with_name("state.db.lock")
    lock.unlink()

    assert not StoreAdmin(path).status().is_running
    assert not lock.exists()


async def test_jobs_are_filtered(disk: SqliteStore, admin: StoreAdmin, now: Hands):
    """Jobs come with the one that changed last first, and by id, state, time and number."""
    await disk.write(WriteBatch(states=[ended("job-1"), a_state("job-12")]))
    now.turn(5)
    await disk.write(WriteBatch(states=[a_state("x", status=JobStatus.RUNNING)]))

    def found(**wanted) -> list[str]:
        return [it["job_id"] for it in admin.jobs(EventFilter(**wanted))]

    assert found() == ["x", "job-1", "job-12"]
    assert found(state="SUCCEEDED") == ["job-1"]
    assert found(since=NOON + 1) == found(limit=1) == ["x"]
    assert found(job="job-1") == ["job-1"]
    assert admin.jobs(EventFilter(job="job-1"))[0]["job_cost"] == 0.0234


async def test_events_are_filtered(disk: SqliteStore, admin: StoreAdmin, now: Hands):
    """Events come latest first, with where they went, and by job, type, sink, status and time."""
    await bury(disk, "1")
    now.turn(5)
    await disk.write(WriteBatch(events=[an_event("2", "job-2", type="job.started")]))

    def found(**wanted) -> list[str]:
        return [it["id"] for it in admin.events(EventFilter(**wanted))]

    assert found() == ["evt_2", "evt_1"]
    assert found(job="job-2") == found(type="job.started") == found(sink=LOG) == ["evt_2"]
    assert found(since=NOON + 1) == found(limit=1) == found(state="pending") == ["evt_2"]
    assert found(sink=LOG, state="dead") == []
    assert admin.events(EventFilter(state="dead"))[0]["deliveries"] == [
        {"sink": HOOK, "status": "dead"}
    ]


async def test_event_is_shown_with_its_bytes(disk: SqliteStore, admin: StoreAdmin):
    """An event is found by the beginning of its id, with its frozen body and its deliveries."""
    await bury(disk, "1")

    shown = admin.event("evt")

    assert checksum(shown["body"]) == shown["digest"]
    assert shown["recorded_at"] == "2024-01-15T12:00:00Z"
    assert [(it["sink"], it["status"], it["reason"]) for it in shown["deliveries"]] == [
        (HOOK, "dead", "HTTP 400")
    ]


@pytest.mark.parametrize(
    ("begin", "told"),
    [
        ("evt_", "2 event IDs start with 'evt_', such as evt_1 and evt_2; use a longer prefix"),
        ("evt_9", "no event ID starts with 'evt_9'; list them with `events ls`"),
        ("", "no event ID starts with ''"),
    ],
    ids=["several", "none", "empty"],
)
async def test_id_must_name_one(disk: SqliteStore, admin: StoreAdmin, begin: str, told: str):
    """A beginning that several events share, or none, changes nothing and is told."""
    await bury(disk, "1", "2")

    with pytest.raises(NoMatch, match=told):
        admin.delete_dead_letters(EventFilter(event_ids=[begin]))
    assert len(admin.deliveries(DEAD)) == 2


async def test_unknown_sink_is_told(disk: SqliteStore, admin: StoreAdmin):
    """A sink's name that is misspelt is no empty list, but an error that says which there are."""
    with pytest.raises(NoMatch, match="no sink is named 'hook'; known sinks: log, webhook"):
        admin.deliveries(EventFilter(sink="hook"))


async def test_costs_are_exact(disk: SqliteStore, admin: StoreAdmin):
    """Costs are decimals as the API wrote them, and None where it wrote none."""
    jobs = [ended("a", job_cost=0.1), ended("b", job_cost=5e-05), ended("c", job_cost=None)]
    await disk.write(WriteBatch(states=[*jobs, a_state("d", status=JobStatus.RUNNING)]))

    costs = {it["job_id"]: it["job_cost"] for it in admin.ended_jobs()}

    assert costs == {"a": Decimal("0.1"), "b": Decimal("0.00005"), "c": None}


async def test_costs_count_at_the_end_of_a_job(disk: SqliteStore, admin: StoreAdmin):
    """A job ended when the API says so, else when it was seen to."""
    late = ended("late", datetime_completed=None)
    await disk.write(WriteBatch(states=[late, ended("early")]))

    assert {it["ended_at"] for it in admin.ended_jobs()} == {
        "2024-01-15T12:00:00Z",
        "2024-01-15T10:32:15Z",
    }
    assert [it["job_id"] for it in admin.ended_jobs(NOON)] == ["late"]


async def test_change_waits_for_a_writer(
    disk: SqliteStore, admin: StoreAdmin, path: Path, monkeypatch: pytest.MonkeyPatch
):
    """While another process writes, a look works, and a change waits, then says so."""
    await bury(disk, "1")
    monkeypatch.setattr(desk_module, "BUSY_TIMEOUT", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        seen = admin.deliveries(DEAD)
        with pytest.raises(StoreUnavailable, match="another process is writing to it; try again"):
            admin.delete_dead_letters(DEAD)

    assert len(seen) == len(admin.deliveries(DEAD)) == 1


def test_missing_file_is_not_made(path: Path):
    """Without a database there is one clear line, and still no database."""
    with pytest.raises(StoreUnusable, match=r"state.db does not exist; use the same POLLER_STORE"):
        StoreAdmin(path).status()
    assert not path.exists()


def test_what_cannot_be_had_is_told(path: Path):
    """A path below a file is refused with the system's own word."""
    path.write_text("", "utf-8")

    with pytest.raises(
        StoreUnusable, match=r"cannot be read \(Not a directory\); run this command as the user"
    ):
        StoreAdmin(path / "state.db").status()


async def test_database_that_cannot_be_opened_is_told(path: Path, now: Hands):
    """Where SQLite cannot make its files beside the database, it is said whose they are."""
    async with a_store(path, now):
        pass
    path.with_name("state.db-wal").mkdir()

    with pytest.raises(
        StoreUnusable, match=r"\(unable to open database file\); run this command as the user"
    ):
        StoreAdmin(path).status()


def test_what_is_no_database_is_told(path: Path):
    """A file of something else is left as it is."""
    path.write_text("no database, whatever its name is" * 100, "utf-8")

    with pytest.raises(StoreUnusable, match="`sutro-poller run` sets it aside"):
        StoreAdmin(path).status()


def test_a_folder_is_no_database(tmp_path: Path):
    """A path that lacks the name of the file is told as that."""
    with pytest.raises(StoreUnusable, match="is a directory; use the same POLLER_STORE"):
        StoreAdmin(tmp_path).status()


def test_the_database_of_another_program_is_told(path: Path):
    """Nobody is sent to a daemon that will not take it either."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")

    with pytest.raises(StoreUnusable, match="is the database of another program; use the same"):
        StoreAdmin(path).status()


@pytest.mark.parametrize(
    ("version", "told"),
    [(99, "a newer version of this program"), (0, "an older version; start `sutro-poller run`")],
)
def test_version_must_fit(path: Path, version: int, told: str):
    """A file of another version is neither read nor changed."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("CREATE TABLE identity (x)")

    with pytest.raises(StoreUnusable, match=told):
        StoreAdmin(path).enable_sink(HOOK)
