"""Every end of a job reaches the receiver, whatever happens to either of them."""

import signal
from itertools import cycle
from pathlib import Path
from typing import Final

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import Daemon, Place
from tests.support.ports import reserved_port
from tests.support.secret_canaries import PATH
from tests.support.waiting import now, until
from tests.support.webhook_receiver import END_TYPES, Receiver, listening

pytestmark = pytest.mark.anyio


def ended(count: int) -> list[JobScript]:
    """Return jobs that have succeeded already."""
    return [
        JobScript(job_id=f"job-{number}", queue_seconds=0.0, run_seconds=0.0)
        for number in range(count)
    ]


def mixed(count: int) -> list[JobScript]:
    """Return jobs of every outcome; some end at once, some seconds from now."""
    fates = zip(range(count), cycle(("succeeded", "failed", "cancelled")), strict=False)
    return [
        JobScript(
            job_id=f"job-{number}",
            ends_as=ends_as,
            queue_seconds=number / 50,
            run_seconds=number / 30,
            cost_delay=number % 3 / 10,
        )
        for number, ends_as in fates
    ]


def logged_ends(daemon: Daemon) -> set[str]:
    """Return the ids of the ends in the log."""
    return {line["event_id"] for line in daemon.lines if line["event"] in END_TYPES}


async def test_fifty_jobs_are_delivered_once_each(place: Place):
    """Fifty jobs with mixed outcomes reach the webhook and the log, each once and correctly."""
    scripts = mixed(50)
    async with place.running("run", POLLER_JOB_IDS=place.jobs(*scripts)) as daemon:
        await until(lambda: len(place.receiver.ends) >= 50 and len(logged_ends(daemon)) >= 50)
        code = await daemon.stop()

    # On a slow machine there are also events of late costs.
    ends = [event for event in place.receiver.received if event.type in END_TYPES]
    assert code == 0
    assert not daemon.err
    assert {event.subject: event.type for event in ends} == {
        script.job_id: f"job.{script.ends_as}" for script in scripts
    }
    assert len(ends) == 50
    assert logged_ends(daemon) == {event.id for event in ends}


async def test_stop_under_load_is_quick_and_repeats_nothing(place: Place):
    """SIGTERM ends the daemon with 0 within 8 s; the next start sends only what was left."""
    jobs = place.jobs(*ended(40))
    place.receiver.delay = 0.3
    async with place.running("run", POLLER_JOB_IDS=jobs) as daemon:
        await until(lambda: place.receiver.ends)
        code = await daemon.stop()
    sent_first = len(place.receiver.ends)
    async with place.running("run", POLLER_JOB_IDS=jobs) as daemon:
        await until(lambda: len(place.receiver.acknowledged) == 40)
        second_code = await daemon.stop()

    assert (code, second_code) == (0, 0)
    assert 0 < sent_first < 40
    assert sorted(place.receiver.ends) == sorted(jobs.split(","))


NO_TIME_LIMIT: Final = """
import poller.app
import poller.cli.run
poller.app.SHUTDOWN_GRACE = poller.app.STORE_GRACE = poller.cli.run.STOP_TIMEOUT = 1000.0
"""
"""Run at the start of the daemon's Python: a stop waits for a send as long as that takes."""


async def test_second_signal_exits_at_once(place: Place, tmp_path: Path):
    """A send in flight gets its grace after one SIGTERM, and none after two."""
    (tmp_path / "sitecustomize.py").write_text(NO_TIME_LIMIT, "utf-8")
    place.receiver.delay = 1_000.0
    settings = {"PYTHONPATH": str(tmp_path), "POLLER_WEBHOOK_TIMEOUT": "1m"}
    jobs = place.jobs(*ended(1))
    async with place.running("run", POLLER_JOB_IDS=jobs, **settings) as daemon:
        await until(lambda: place.receiver.ends)
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.saying("poller.stopping")
        began = now()
        daemon.process.send_signal(signal.SIGTERM)
        code = await daemon.end()

    assert code == 0
    assert now() - began < 50.0


@pytest.mark.slow
async def test_receiver_outage_loses_no_event(place: Place):
    """A refused connection and a 503 lose no event, and no sink waits for another."""
    gone, troubled = Receiver(), place.receiver
    troubled.status = 503
    settings = {
        "POLLER_JOB_IDS": place.jobs(*ended(3)),
        "POLLER_SINKS": "webhook,webhook.audit",
        "POLLER_WEBHOOK_AUDIT_SECRET": place.environment({})["POLLER_WEBHOOK_SECRET"],
        "POLLER_WEBHOOK_AUDIT_HEADERS": place.environment({})["POLLER_WEBHOOK_HEADERS"],
    }
    with reserved_port() as port:
        settings["POLLER_WEBHOOK_AUDIT_URL"] = f"http://127.0.0.1:{port}{PATH}"
        async with place.running("run", **settings) as daemon:
            await until(lambda: len(daemon.said("delivery.failed")) >= 6)
            troubled.status = 204
            async with listening(gone, port=port):
                await until(lambda: len(gone.ends) + len(troubled.ends) == 6)
            await daemon.stop()

    assert sorted(gone.ends) == sorted(troubled.ends) == ["job-0", "job-1", "job-2"]
    assert {event.id for event in gone.received} == {event.id for event in troubled.received}


async def test_lost_database_keeps_event_ids(place: Place):
    """A daemon with a new database reports the same ends under the same ids."""
    jobs = place.jobs(*ended(3))
    for number in range(2):
        store = str(place.folder / "state" / f"{number}.db")
        async with place.running("run", POLLER_JOB_IDS=jobs, POLLER_STORE=store) as daemon:
            await until(lambda number=number: len(place.receiver.ends) == 3 * (number + 1))
            await daemon.stop()

    assert len(place.receiver.received) == 6
    assert len({event.id for event in place.receiver.received}) == 3
