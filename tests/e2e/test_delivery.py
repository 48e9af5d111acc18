"""Every end of a job reaches the receiver, whatever happens to either of them."""

import signal
from itertools import cycle

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import Place
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


async def test_fifty_jobs_are_delivered_once_each(place: Place):
    """Fifty jobs with mixed outcomes reach the webhook and the log, each once and correctly."""
    scripts = mixed(50)
    async with place.running("run", POLLER_JOB_IDS=place.jobs(*scripts)) as daemon:
        await until(lambda: len(place.receiver.ends) >= 50)
        code = await daemon.stop()

    # On a slow machine there are also events of late costs.
    ends = [event for event in place.receiver.received if event.type in END_TYPES]
    logged = {line["event_id"] for line in daemon.lines if line["event"] in END_TYPES}
    assert code == 0
    assert not daemon.err
    assert {event.subject: event.type for event in ends} == {
        script.job_id: f"job.{script.ends_as}" for script in scripts
    }
    assert len(ends) == 50
    assert logged == {event.id for event in ends}


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


async def test_second_signal_exits_at_once(place: Place):
    """A send in flight gets its grace after one SIGTERM, and none after two."""
    place.receiver.delay = 20.0
    async with place.running("run", POLLER_JOB_IDS=place.jobs(*ended(1))) as daemon:
        await until(lambda: place.receiver.ends)
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.saying("poller.stopping")
        began = now()
        daemon.process.send_signal(signal.SIGTERM)
        code = await daemon.end()

    assert code == 0
    assert now() - began < 5.0


@pytest.mark.slow
async def test_receiver_outage_loses_no_event(place: Place):
    """A refused connection and a 503 lose no event, and no sink waits for another."""
    async with listening(Receiver()) as gone:
        pass
    troubled = place.receiver
    troubled.status = 503
    settings = {
        "POLLER_JOB_IDS": place.jobs(*ended(3)),
        "POLLER_SINKS": "webhook,webhook.audit",
        "POLLER_WEBHOOK_AUDIT_URL": gone.url,
        "POLLER_WEBHOOK_AUDIT_SECRET": place.environment({})["POLLER_WEBHOOK_SECRET"],
        "POLLER_WEBHOOK_AUDIT_HEADERS": place.environment({})["POLLER_WEBHOOK_HEADERS"],
    }
    async with place.running("run", **settings) as daemon:
        await until(lambda: len(daemon.said("delivery.failed")) == 6)
        troubled.status = 204
        async with listening(gone, port=int(gone.url.split(":")[2].split("/")[0])):
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
