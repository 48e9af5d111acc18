"""Probes, metrics and the version of the HTTP API."""

import time
from pathlib import Path

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from poller import __version__
from poller.api import server
from poller.core.errors import StoreUnavailable
from poller.status import DaemonStatus, Health
from poller.sutro.simulator.script import JobScript
from tests.support.api_server import LiveDaemon, live_daemon
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

RUNS = JobScript(job_id="job-1", run_seconds=1e5)
OPENMETRICS, TEXT = "application/openmetrics-text", "text/plain"


async def probe(daemon: LiveDaemon) -> dict[str, tuple[int, object]]:
    """Return the responses of all probes."""
    responses = {path: await daemon.get(path) for path in ("/livez", "/readyz", "/healthz")}
    return {path: (response.status, response.body) for path, response in responses.items()}


async def test_probes_of_a_working_daemon(daemon: LiveDaemon):
    """A daemon that works is live and ready."""
    live, ready = ({name: True, "reasons": []} for name in ("live", "ready"))

    assert await probe(daemon) == {
        "/livez": (200, live),
        "/readyz": (200, ready),
        "/healthz": (200, ready),
    }


async def test_probes_ignore_an_api_outage(tmp_path: Path):
    """An outage of the API fails no probe: a restart would not help."""
    async with live_daemon(tmp_path, SUTRO_API_URL="http://127.0.0.1:9") as daemon:
        await until(lambda: daemon.app.counters.responses["no_response"])
        responses = await probe(daemon)
        status = (await daemon.get("/v1/status")).body

    assert {code for code, _ in responses.values()} == {200}
    assert status["ready"]
    assert status["api"]["failing_since"]


async def test_probes_report_a_stalled_loop(daemon: LiveDaemon, monkeypatch: pytest.MonkeyPatch):
    """A loop that has stalled fails each probe, with its name: a restart may help."""
    health = Health(is_running=True, stalled=("polling",))
    monkeypatch.setattr(DaemonStatus, "health", health)

    live, ready = (
        {name: False, "reasons": ["the loop 'polling' has stalled"]} for name in ("live", "ready")
    )
    assert await probe(daemon) == {
        "/livez": (503, live),
        "/readyz": (503, ready),
        "/healthz": (503, ready),
    }


async def test_probes_while_the_store_cannot_be_opened(tmp_path: Path):
    """While the store cannot be opened, the API runs and reports it: live, not ready."""

    def fail(*_):
        raise StoreUnavailable("the disk is full")

    async with live_daemon(tmp_path, RUNS, new_store=fail, is_ready=False) as daemon:
        responses = await probe(daemon)
        rejected = await daemon.get("/v1/jobs")
        status = (await daemon.get("/v1/status")).body
        scraped = await daemon.get("/metrics")

    assert [code for code, _ in responses.values()] == [200, 503, 503]
    assert responses["/readyz"][1] == {"ready": False, "reasons": ["the store is not open yet"]}
    assert (rejected.problem, rejected.headers["Retry-After"]) == ("not-ready", "5")
    assert status["store"] == {"id": None, "error": "the disk is full"}
    assert [issue["name"] for issue in status["issues"]] == ["store_unavailable"]
    assert "sutro_poller_ready 0.0" in scraped.text


async def test_metrics_are_in_the_text_format(daemon: LiveDaemon):
    """The metrics come as text that Prometheus can parse, with those of the process."""
    response = await daemon.get("/metrics")

    names = {family.name for family in text_string_to_metric_families(response.text)}
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert {
        "sutro_poller_watched_jobs",
        "sutro_poller_event_loop_lag_seconds",
        "process_cpu_seconds",
    } <= names
    assert "job-1" not in response.text


async def test_metrics_show_a_blocked_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A blocked event loop shows in the metrics."""
    monkeypatch.setattr(server, "LAG_INTERVAL", 0.01)
    async with live_daemon(tmp_path, RUNS) as daemon:

        def lag() -> float:
            """Block the loop, and return the lag that was measured before, if that is long."""
            measured = daemon.app.counters.loop_lag
            time.sleep(0.3)  # this is what holds it up
            return measured if measured >= 0.2 else 0.0

        assert await until(lag) <= 60.0


async def test_metrics_are_in_openmetrics_on_request(daemon: LiveDaemon):
    """A client that accepts OpenMetrics gets OpenMetrics."""
    response = await daemon.get("/metrics", headers={"Accept": "application/openmetrics-text"})

    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


ACCEPTS = (
    (f"{OPENMETRICS}; version=abc", OPENMETRICS),
    (f"{OPENMETRICS}; version=1.x", OPENMETRICS),
    (f"{OPENMETRICS};version=99.0;escaping=values", OPENMETRICS),
    (f"text/plain;version=1.0.0;q=0.5, {OPENMETRICS.upper()};q=0.1", OPENMETRICS),
    (f"{OPENMETRICS}; version=1.0.0; q=0.00, */*", TEXT),
    ("text/plain; version=abc", TEXT),
    (";;;=,,", TEXT),
    ("application/json", TEXT),
    ("a" * 5_000, TEXT),
)


async def test_metrics_have_a_format_for_any_accept_header(daemon: LiveDaemon):
    """Any Accept header gets the metrics: as OpenMetrics where it has that, else as text."""
    for accept, expected in ACCEPTS:
        response = await daemon.get("/metrics", headers={"Accept": accept})

        content_type = response.headers["Content-Type"]
        assert (response.status, content_type.partition(";")[0]) == (200, expected), accept
        assert "99" not in content_type
        assert response.text.endswith("# EOF\n") == (expected == OPENMETRICS)


async def test_version_is_that_of_the_package(daemon: LiveDaemon):
    """The version is that of the package."""
    assert (await daemon.get("/version")).body["version"] == __version__


@pytest.mark.slow
async def test_probes_of_a_stopping_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """While sends under way end, the daemon is live and not ready, and serves no data."""
    monkeypatch.setattr("poller.app.SHUTDOWN_GRACE", 100.0)
    monkeypatch.setattr("poller.app.STORE_GRACE", 100.0)
    async with live_daemon(tmp_path, JobScript(job_id="job-1", run_seconds=0.0)) as daemon:
        daemon.receiver.gate = anyio.Event()
        await until(lambda: daemon.receiver.received)
        daemon.app.stop()
        responses = await probe(daemon)
        rejected = await daemon.get("/v1/jobs")
        daemon.receiver.gate.set()

    assert [code for code, _ in responses.values()] == [200, 503, 503]
    assert rejected.body["detail"] == "it is stopping"
