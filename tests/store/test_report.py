"""The content of the daily report: ends and costs of its period, and what needs attention."""

import sqlite3
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final

from poller.core.daily_report import ReportPeriod, daily_report_event
from poller.core.events import EventOrigin
from poller.core.job_status import JobStatus
from poller.core.outbox import DAY, WriteBatch
from poller.core.state import JobState, Phase
from poller.store.memory import MemoryStore
from poller.store.report import ReportQuery
from poller.store.sqlite import SqliteStore
from tests.support.builders import a_job, check_event
from tests.support.store_builders import (
    HOOK,
    NOON,
    AnyStore,
    ManualClock,
    a_state,
    an_event,
    dead,
    due,
)

STARTED: Final = datetime(2024, 1, 15, 10, tzinfo=UTC)


def an_end(job_id: str, status: str = "SUCCEEDED", *, at: float = NOON, **fields: Any) -> JobState:
    """Return the state of a job whose end was recorded at a time."""
    job = replace(a_job(status), job_id=job_id, **({"job_cost": 0.25, "model": "m"} | fields))
    return a_state(job_id, phase=Phase.DONE, since=at, status=job.status, job=job)


def ran(seconds: float) -> dict[str, datetime]:
    """Return the times of a job that ran for so long."""
    return {
        "datetime_started": STARTED,
        "datetime_completed": STARTED + timedelta(seconds=seconds),
    }


async def report(store: AnyStore, watched: Collection[str] = ()) -> dict[str, Any]:
    """Return the report of the day until noon."""
    return await store.report(ReportQuery(since=NOON - DAY, until=NOON, watched=watched))


async def write(store: AnyStore, *states: JobState) -> None:
    """Write states."""
    await store.write(WriteBatch(states=states))


async def test_report_of_an_empty_store(store: AnyStore) -> None:
    """Where nothing has ended, no cost is known, and nothing needs attention."""
    assert await report(store) == {
        "succeeded": 0,
        "failed": 0,
        "cancelled": 0,
        "cost_usd": None,
        "cost_unknown": 0,
        "models": [],
        "models_omitted": 0,
        "slowest": [],
        "unchanged": [],
        "missing": 0,
        "missing_ids": [],
        "sinks": [],
    }


async def test_end_counts_in_the_period_that_recorded_it(store: AnyStore) -> None:
    """The first moment of a period belongs to it, and its end to the next one."""
    times = (NOON - DAY - 1.0, NOON - DAY, NOON - 1.0, NOON, NOON + 1.0)
    for number, at in enumerate(times):
        await write(store, an_end(f"job-{number}", at=at))

    first = await report(store)
    second = await store.report(ReportQuery(since=NOON, until=NOON + DAY, watched=()))

    assert (first["succeeded"], second["succeeded"]) == (2, 2)


async def test_ends_count_by_their_status(store: AnyStore) -> None:
    """Each end counts once; a job that runs, settles or is missing does not."""
    before = NOON - 60.0
    await write(
        store,
        an_end("job-1", at=before),
        an_end("job-2", "FAILED", at=before),
        an_end("job-3", "FAILED", at=before),
        an_end("job-4", "CANCELLED", at=before),
        a_state("job-5", since=before, status=JobStatus.RUNNING, job=a_job()),
        replace(an_end("job-6", at=before), phase=Phase.SETTLING, status=JobStatus.RUNNING),
        replace(an_end("job-7", at=before), phase=Phase.MISSING),
    )

    found = await report(store)

    assert (found["succeeded"], found["failed"], found["cancelled"]) == (1, 2, 1)


async def test_cost_is_exact_and_names_what_it_lacks(store: AnyStore) -> None:
    """Thousands of costs are summed as decimals; unknown ones are counted beside the sum."""
    random, expected = Random(3), Decimal()
    states = []
    for number in range(2_000):
        cost = Decimal(random.randrange(10**12)).scaleb(-9)
        expected += cost
        states.append(an_end(f"job-{number}", at=NOON - 60.0, job_cost=float(cost)))
    await write(store, *states, an_end("job-x", at=NOON - 60.0, job_cost=None))

    found = await report(store)

    assert found["cost_usd"] == f"{expected.normalize():f}"
    assert found["cost_unknown"] == 1
    assert found["models"] == [
        {"model": "m", "jobs": 2_001, "cost_usd": found["cost_usd"], "cost_unknown": 1}
    ]


async def test_cost_that_no_job_has_is_null(store: AnyStore) -> None:
    """A sum of unknown costs is unknown, and one of costs of 0 is 0."""
    await write(
        store,
        an_end("job-1", at=NOON - 60.0, job_cost=None, model="a"),
        an_end("job-2", at=NOON - 60.0, job_cost=0.0, model="b"),
    )

    found = await report(store)

    assert [(row["model"], row["cost_usd"]) for row in found["models"]] == [("a", None), ("b", "0")]
    assert (found["cost_usd"], found["cost_unknown"]) == ("0", 1)


async def test_late_cost_counts_in_the_period_of_the_end(store: AnyStore, now: ManualClock) -> None:
    """A cost that came later is in a report of that period, and the job in no other one."""
    late = an_end("job-1", at=NOON - 60.0, job_cost=None)
    await write(store, late)
    now.advance(600.0)
    await write(store, replace(late, job=replace(late.job or a_job(), job_cost=0.75)))

    second = await store.report(ReportQuery(since=NOON, until=NOON + DAY, watched=()))

    assert (await report(store))["cost_usd"] == "0.75"
    assert second["succeeded"] == 0


async def test_models_are_ranked_by_cost(store: AnyStore) -> None:
    """The most expensive come first; what is left out is counted, and is in the sum."""
    states = [
        an_end(f"job-{number}", at=NOON - 60.0, model=f"m{number:02}", job_cost=float(number))
        for number in range(13)
    ]
    await write(store, *states, an_end("job-x", at=NOON - 60.0, model=None, job_cost=100.0))

    found = await report(store)

    assert [row["model"] for row in found["models"]] == [
        None,
        *(f"m{number:02}" for number in range(12, 3, -1)),
    ]
    assert found["models_omitted"] == 4
    assert found["cost_usd"] == str(100 + sum(range(13)))


async def test_slowest_are_those_that_ran_longest(store: AnyStore) -> None:
    """They come from all statuses; a job whose times are not known or run backwards is none."""
    statuses = ("SUCCEEDED", "FAILED", "CANCELLED")
    states = [
        an_end(f"job-{number}", statuses[number % 3], at=NOON - 60.0, **ran(10.0 * number))
        for number in range(8)
    ]
    await write(store, *states, an_end("x", at=NOON - 60.0), an_end("y", at=NOON - 60.0, **ran(-9)))

    found = await report(store)

    assert [(job["job_id"], job["status"], job["seconds"]) for job in found["slowest"]] == [
        (f"job-{number}", statuses[number % 3], 10.0 * number) for number in range(7, 2, -1)
    ]


async def test_unchanged_are_watched_jobs_without_a_change(
    store: AnyStore, now: ManualClock
) -> None:
    """The longest come first, from an hour on; what has ended or is not watched is left out."""
    for hours in (9, 5, 7, 0):
        now.now = NOON - hours * 3_600.0
        running = a_job("RUNNING", job_id=f"job-{hours}", name="x" * 200, model="m")
        await write(
            store, a_state(running.job_id, since=0.0, status=JobStatus.RUNNING, job=running)
        )
    now.now = NOON - 8 * 3_600.0
    await write(store, an_end("job-8"))
    now.now = NOON

    found = await report(store, ["job-5", "job-7", "job-8", "job-0", "job-x"])

    assert found["unchanged"] == [
        {
            "job_id": f"job-{hours}",
            "name": "x" * 79 + "…",
            "model": "m",
            "status": "RUNNING",
            "seconds": hours * 3_600.0,
        }
        for hours in (7, 5)
    ]


async def test_missing_are_watched_ids_that_the_api_does_not_know(store: AnyStore) -> None:
    """All are counted, and the first are named; one that is not watched is left out."""
    await write(
        store, *(a_state(f"job-{number}", phase=Phase.MISSING, since=0.0) for number in range(9))
    )

    found = await report(store, [f"job-{number}" for number in range(1, 9)])

    assert found["missing"] == 8
    assert found["missing_ids"] == [f"job-{number}" for number in range(1, 6)]
    assert found["unchanged"] == []


async def test_sinks_with_dead_letters_or_disabled_are_named(store: AnyStore) -> None:
    """A sink without a problem is left out."""
    assert (await report(store))["sinks"] == []
    await store.write(WriteBatch(events=[an_event("1"), an_event("2", subject="job-2")]))
    await store.settle([dead((await due(store, NOON, HOOK))[0])])
    await store.disable_sink("log", "gone")

    assert (await report(store))["sinks"] == [
        {"sink": "log", "pending": 0, "dead": 0, "is_disabled": True},
        {"sink": HOOK, "pending": 1, "dead": 1, "is_disabled": False},
    ]


async def test_report_is_about_one_deployment(path: Any, now: ManualClock) -> None:
    """What was recorded for another API does not count."""
    for deployment in ("first.example", "second.example"):
        store = SqliteStore(path, routes={}, deployment=deployment, now=now)
        async with store:
            await write(
                store,
                an_end(f"job-{deployment[0]}", at=NOON - 60.0),
                a_state(f"lost-{deployment[0]}", phase=Phase.MISSING, since=0.0),
            )
            found = await report(store, ["lost-f", "lost-s"])
            assert (found["succeeded"], found["missing"]) == (1, 1)


async def test_job_of_two_names_of_one_deployment_counts_once(path: Any, now: ManualClock) -> None:
    """A job that was polled at an old name of the API too is counted at the new one alone."""
    created = {"datetime_created": STARTED, "datetime_completed": STARTED}
    counts = []
    for deployment in ("old.example", "new.example", "old.example"):
        async with SqliteStore(path, routes={}, deployment=deployment, now=now) as store:
            if len(counts) < 2:
                await write(store, an_end("job-1", at=NOON - 60.0, **created, name="n"))
            counts.append((await report(store))["succeeded"])
            now.advance(1.0)

    assert counts == [1, 1, 0]


async def test_damaged_rows_are_left_out(now: ManualClock) -> None:
    """A row that is not JSON, or has odd names in it, breaks no report."""
    store = MemoryStore(routes={}, deployment="api.sutro.sh", now=now)
    await write(store, *(an_end(f"job-{n}", at=NOON - 60.0, **ran(9.0)) for n in range(4)))
    now.now = NOON - 2 * 3_600.0
    await write(store, a_state("job-5", status=JobStatus.RUNNING, job=a_job()))
    now.now = NOON

    def damage(db: sqlite3.Connection) -> None:
        db.execute("UPDATE jobs SET job = '{' WHERE job_id IN ('job-0', 'job-5')")
        db.execute("""UPDATE jobs SET job = '{"name": 5, "model": [1]}' WHERE job_id = 'job-1'""")

    store.transact(damage)
    found = await report(store, ["job-5"])

    assert found["succeeded"] == 3
    assert len(found["slowest"]) == 2
    assert found["unchanged"][0]["name"] is None


async def test_largest_report_is_a_valid_event(store: AnyStore, now: ManualClock) -> None:
    """With the longest names and ids in every place an event keeps its limits."""
    long = "\N{FAMILY}" * 500
    ids = [f"{number:02}" + "x" * 254 for number in range(40)]
    now.now = NOON - 7_200.0
    active = [
        a_state(
            job_id,
            status=JobStatus.RUNNING,
            job=replace(a_job(), job_id=job_id, name=long, model=long),
        )
        for job_id in ids[:10]
    ]
    ended = [
        an_end(job_id, at=NOON - 60.0, name=long, model=f"{job_id[:2]}{long}", **ran(1e6))
        for job_id in ids[10:30]
    ]
    lost = [a_state(job_id, phase=Phase.MISSING) for job_id in ids[30:]]
    await write(store, *active, *ended, *lost)
    now.now = NOON

    content = await report(store, ids)
    moment = datetime.fromtimestamp(NOON, UTC)
    period = ReportPeriod.of_today(moment, moment.time(), UTC)
    event = daily_report_event(content, period, EventOrigin(deployment="a" * 253), moment)

    assert check_event(event.body)["data"]["models_omitted"] == 10
