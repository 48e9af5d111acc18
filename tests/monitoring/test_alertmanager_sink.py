"""The alertmanager sink, and a real Alertmanager that routes its alerts to a receiver."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from poller.settings.base import Reloadable
from poller.sinks import SinkContext
from poller.sinks.alertmanager import KIND, AlertmanagerSettings
from poller.sinks.testing import sample_delivery
from poller.sutro.simulator.script import JobScript
from tests.docs.markdown import ROOT
from tests.monitoring.stack import READY_SECONDS, UNUSED, missing_programs, start_alertmanager
from tests.support.daemon_process import a_place
from tests.support.running_app import served
from tests.support.waiting import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(
        "prometheus-alertmanager" in missing_programs(),
        reason="apt-get install prometheus-alertmanager",
    ),
]

FAILED = JobScript(
    job_id="job-1", name="Nightly", queue_seconds=0.0, run_seconds=0.0, ends_as="failed"
)


@dataclass
class Manager:
    """An Alertmanager, and what its receiver got: path, status and alert, in order."""

    address: str = ""
    got: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """Keep the alerts of one webhook of Alertmanager."""
        alerts = (await request.json())["alerts"]
        self.got += [(request.path, alert["status"], alert) for alert in alerts]
        return web.Response()

    async def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that fire."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.address}/api/v2/alerts") as response,
        ):
            return await response.json()

    async def reported(self, *statuses: str) -> None:
        """Wait until the receiver has got this many alerts, which must have these statuses."""
        await until(lambda: len(self.got) >= len(statuses), within=READY_SECONDS)
        assert [status for _, status, _ in self.got] == list(statuses)


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Manager]:
    """Yield an Alertmanager that sends alerts of the severity `page` to the path /page."""
    opened = Manager()
    async with AsyncExitStack() as stack:
        hook = await stack.enter_async_context(served(opened.take))
        opened.address = await start_alertmanager(stack, tmp_path, hook, page="/page")
        yield opened


def settings(manager: Manager, resolve_after: float = 900.0) -> Reloadable[AlertmanagerSettings]:
    """Return settings of a sink that sends to it."""
    url = SecretStr(f"http://{manager.address}")
    values = AlertmanagerSettings(url=(url,))
    return Reloadable(values.model_copy(update={"resolve_after": resolve_after}))


async def test_failed_job_reaches_the_receiver_of_its_severity(manager: Manager, tmp_path: Path):
    """A failed job is an alert at the receiver, though another instance of the cluster is down."""
    async with a_place(Path(), tmp_path / "place") as place:
        environment = place.environment(
            {
                "POLLER_SINKS": "alertmanager",
                "POLLER_ALERTMANAGER_URL": f"http://{UNUSED},http://{manager.address}",
                "POLLER_ALERTMANAGER_SEVERITY": "page",
                "POLLER_JOB_IDS": place.jobs(FAILED),
                "POLLER_WEBHOOK_URL": None,
                "POLLER_WEBHOOK_SECRET": None,
                "POLLER_WEBHOOK_HEADERS": None,
            }
        )
        command = [sys.executable, "-m", "poller", "run"]
        environment["PYTHONPATH"] = str(ROOT)
        async with place.started(command, environment) as daemon:
            await manager.reported("firing")
            await daemon.stop()

    ((path, _, alert),) = manager.got
    assert path == "/page"
    assert alert["labels"]["job_name"] == "Nightly"
    assert alert["annotations"]["summary"].startswith("Nightly (job-1) failed")


async def test_alert_of_a_job_fires_once_and_is_resolved(manager: Manager):
    """All problems of a job are one alert: its return resolves it, a test does not touch it."""
    async with KIND.open(settings(manager), SinkContext()) as sink:
        for kind in ("job.missing", "job.missing", "job.unrecognised"):
            await sink.send(sample_delivery(kind))
        assert len(await manager.alerts()) == 1
        await manager.reported("firing")
        await sink.send(sample_delivery("job.found"))
        await manager.reported("firing", "resolved")

    assert await manager.alerts() == []


async def test_alert_that_nothing_resolves_ends_by_itself(manager: Manager):
    """The alert of a job that failed long ago fires for RESOLVE_AFTER, counted from now."""
    async with KIND.open(settings(manager, resolve_after=15.0), SinkContext()) as sink:
        await sink.send(sample_delivery("job.failed"))
        await manager.reported("firing", "resolved")

    (_, _, resolved) = manager.got[-1]
    assert resolved["startsAt"].startswith("2024-01-15")
