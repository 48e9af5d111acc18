"""A database that has known another deployment: what is recorded of that does not hold here."""

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.counters import Counters
from poller.core.events import EventOrigin
from poller.core.issues import REMEDIES, Issue
from poller.status import DaemonStatus
from tests.support.fakes import (
    FakeApi,
    a_store,
    dispatching,
    ended,
    recorded,
    recorded_types,
    watching,
)
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=20_000.0)


class Deployments:
    """Two deployments with one database."""

    def __init__(self) -> None:
        self.store = a_store()
        self.counters = Counters()
        self.issues: tuple[Issue, ...] = ()

    async def poll(self, deployment: str, api: FakeApi, namespace: str = "sutro") -> None:
        """Poll the jobs of a deployment for a while, as one process."""
        self.store._deployment = deployment
        self.counters = Counters()
        origin = EventOrigin(deployment=deployment, namespace=namespace)
        async with (
            dispatching(self.store) as dispatcher,
            watching(api, self.store, *api.answers, origin=origin, counts=self.counters) as watcher,
        ):
            status = DaemonStatus(
                watcher._source._rate_limiter, virtual_clock().steady, self.counters
            )
            status.attach(self.store, watcher, dispatcher.heartbeats)
            await anyio.sleep(60.0)
            self.issues = status.issues


async def test_end_of_a_job_whose_id_another_deployment_used_is_an_issue():
    """An end that cannot be reported, since its event ID is taken, is logged, counted and shown."""
    both = Deployments()
    await both.poll("a", FakeApi(job_1=ended(datetime_created="2024-01-01T00:00:00Z")))
    with capture_logs() as lines:
        await both.poll("b", FakeApi(job_1=ended(datetime_created="2024-01-02T00:00:00Z")))

    (logged,) = (line for line in lines if line["event"] == "event.id_collision")
    assert logged["log_level"] == "error"
    assert logged["job_id"] == "job-1"
    assert both.counters.id_collisions == 1
    assert both.issues == (Issue.EVENT_ID_COLLISION,)
    assert "POLLER_EVENT_ID_NAMESPACE" in REMEDIES[Issue.EVENT_ID_COLLISION]


async def test_namespace_keeps_the_events_of_deployments_apart():
    """With a namespace for each deployment, the ends of both are reported."""
    both = Deployments()
    for deployment in "ab":
        created = f"2024-01-0{'ab'.index(deployment) + 1}T00:00:00Z"
        await both.poll(deployment, FakeApi(job_1=ended(datetime_created=created)), deployment)

    assert recorded_types(both.store) == ["job.succeeded"] * 2
    assert [event.data["deployment"] for event in recorded(both.store)] == ["a", "b"]
    assert both.issues == ()


async def test_job_at_a_new_name_of_its_deployment_is_not_reported_again():
    """After a move of the API to another host, an end that was reported is a repetition."""
    both = Deployments()
    with capture_logs() as lines:
        for host in "ab":
            await both.poll(host, FakeApi(job_1=ended(datetime_created="2024-01-01T00:00:00Z")))

    assert recorded_types(both.store) == ["job.succeeded"]
    assert both.issues == ()
    assert not [line for line in lines if line["log_level"] == "error"]
