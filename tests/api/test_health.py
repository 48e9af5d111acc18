"""What a service manager, a kubelet and Prometheus are told."""

import time
from pathlib import Path

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from poller import __version__
from poller.api import server as serving
from poller.core.errors import StoreUnavailable
from poller.status import DaemonStatus, Health
from poller.sutro.simulator.script import JobScript
from tests.support.api_server import House, a_house
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

RUNS = JobScript(job_id="job-1", run_seconds=1e5)


async def probed(house: House) -> dict[str, tuple[int, object]]:
    """Ask all probes."""
    answers = {path: await house.get(path) for path in ("/livez", "/readyz", "/healthz")}
    return {path: (it.status, it.body) for path, it in answers.items()}


async def test_all_is_well(house: House):
    """A daemon that works is live and ready, and says no more."""
    live, ready = ({name: True, "reasons": []} for name in ("live", "ready"))

    assert await probed(house) == {
        "/livez": (200, live),
        "/readyz": (200, ready),
        "/healthz": (200, ready),
    }


async def test_an_api_that_is_down_is_no_reason(tmp_path: Path):
    """An outage of the API takes nothing out of service: a restart would not end it."""
    async with a_house(tmp_path, SUTRO_API_URL="http://127.0.0.1:9") as house:
        await until(lambda: house.app.counters.responses["no_response"])
        answers = await probed(house)
        status = (await house.get("/v1/status")).body

    assert {code for code, _ in answers.values()} == {200}
    assert status["ready"]
    assert status["api"]["failing_since"]


async def test_a_loop_that_has_stalled(house: House, monkeypatch: pytest.MonkeyPatch):
    """A loop that does not turn is told by name, by each probe: a restart would mend it."""
    ill = Health(is_running=True, stalled=("polling",))
    monkeypatch.setattr(DaemonStatus, "health", ill)

    live, ready = (
        {name: False, "reasons": ["the loop 'polling' has stalled"]} for name in ("live", "ready")
    )
    assert await probed(house) == {
        "/livez": (503, live),
        "/readyz": (503, ready),
        "/healthz": (503, ready),
    }


async def test_a_store_that_cannot_be_opened(tmp_path: Path):
    """While the disk is full at the start the door is open, and says what is waited for."""

    def refuse(*_):
        raise StoreUnavailable("the disk is full")

    async with a_house(tmp_path, RUNS, new_store=refuse, is_ready=False) as house:
        answers = await probed(house)
        refused = await house.get("/v1/jobs")
        status = (await house.get("/v1/status")).body
        drawn = await house.get("/metrics")

    assert [code for code, _ in answers.values()] == [200, 503, 503]
    assert answers["/readyz"][1] == {"ready": False, "reasons": ["the store is not open yet"]}
    assert (refused.problem, refused.headers["Retry-After"]) == ("not-ready", "5")
    assert status["store"] == {"error": "the disk is full"}
    assert [it["name"] for it in status["issues"]] == ["store_unavailable"]
    assert "sutro_poller_ready 0.0" in drawn.text


async def test_metrics_are_what_prometheus_reads(house: House):
    """The metrics come as text that Prometheus can read, those of the process with them."""
    answer = await house.get("/metrics")

    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert {
        "sutro_poller_watched_jobs",
        "sutro_poller_event_loop_lag_seconds",
        "process_cpu_seconds",
    } <= names
    assert "job-1" not in answer.text


async def test_a_loop_that_is_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What holds up the event loop is seen in the metrics."""
    monkeypatch.setattr(serving, "LAG_INTERVAL", 0.01)
    async with a_house(tmp_path, RUNS) as house:
        await anyio.sleep(0.05)
        time.sleep(0.3)  # noqa: ASYNC251 - this is what holds it up
        await anyio.sleep(0.001)
        lag = house.app.counters.loop_lag

    assert 0.2 <= lag <= 2.0


async def test_openmetrics_on_request(house: House):
    """Whoever asks for OpenMetrics gets that."""
    answer = await house.get("/metrics", headers={"Accept": "application/openmetrics-text"})

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_the_version(house: House):
    """The version is that of the package."""
    assert (await house.get("/version")).body["version"] == __version__


@pytest.mark.slow
async def test_a_daemon_that_stops_is_not_ready(tmp_path: Path):
    """While what is under way ends, the daemon is live and not ready, and shows nothing more."""
    async with a_house(tmp_path, JobScript(job_id="job-1", run_seconds=0.0)) as house:
        house.receiver.delay = 1.0
        await until(lambda: house.receiver.receipts)
        house.app.stop()
        answers = await probed(house)
        refused = await house.get("/v1/jobs")

    assert [code for code, _ in answers.values()] == [200, 503, 503]
    assert refused.body["detail"] == "it is stopping"
