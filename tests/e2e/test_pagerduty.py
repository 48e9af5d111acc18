"""PagerDuty as a receiver: a daemon opens one incident for each job, and resolves it."""

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import Place
from tests.support.pagerduty import ROUTING_KEY, PagerDuty
from tests.support.secret_canaries import leaks
from tests.support.waiting import until
from tests.support.webhook_receiver import listening

pytestmark = pytest.mark.anyio

ENDED = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0)
FAILED = JobScript(
    job_id="job-2", name="Nightly", queue_seconds=0.0, run_seconds=0.0, ends_as="failed"
)


async def test_failed_job_is_an_incident(place: Place):
    """A failed job opens an incident with its name, a success opens none; the key is a secret."""
    async with listening(PagerDuty()) as service:
        settings = {
            "POLLER_SINKS": "pagerduty",
            "POLLER_PAGERDUTY_ROUTING_KEY": ROUTING_KEY,
            "POLLER_PAGERDUTY_URL": service.url,
            "POLLER_WEBHOOK_URL": None,
            "POLLER_WEBHOOK_SECRET": None,
            "POLLER_WEBHOOK_HEADERS": None,
        }
        jobs = place.jobs(ENDED, FAILED)
        async with place.running("run", POLLER_JOB_IDS=jobs, **settings) as daemon:
            await until(lambda: len(service.log) == 2)
            await daemon.stop()

    (key,) = service.opened
    assert key.endswith("/job/job-2")
    assert service.summaries[key].startswith("Nightly (job-2) failed")
    assert ROUTING_KEY not in daemon.out + daemon.err
    assert not leaks(place.folder)
