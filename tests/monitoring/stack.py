"""A real Prometheus and Alertmanager beside a daemon in trouble, all on loopback."""

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import anyio
import yaml
from aiohttp import web

from poller.sutro.simulator.script import JobScript
from tests.docs.markdown import ROOT
from tests.support.daemon_process import Place, a_place
from tests.support.ports import reserved_port
from tests.support.running_app import served
from tests.support.waiting import until

RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yml"
PROGRAMS: Final = ("prometheus", "prometheus-alertmanager")
INTERVAL: Final = "1s"
READY_SECONDS: Final = 300.0
"""As long as a machine may take that does much else."""
UNUSED: Final = "127.0.0.1:1"
"""A target where nothing listens."""
RUNS: Final = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=1e5)
ENDS: Final = JobScript(job_id="job-2", queue_seconds=0.0, run_seconds=1e5)


@dataclass(slots=True)
class AlertReceiver:
    """A receiver of Alertmanager's webhooks: the alerts by name and instance."""

    alerts: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    async def take(self, request: web.Request) -> web.Response:
        """Keep the alerts of one webhook."""
        for alert in (await request.json())["alerts"]:
            labels = alert["labels"]
            self.alerts[labels["alertname"], labels.get("instance", "")] = alert
        return web.Response()


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs, once all has been scraped: the URL of Prometheus, and the alerts received."""

    url: str
    target: str
    alerts: dict[tuple[str, str], dict[str, Any]]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression now."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/api/v1/query", params={"query": expression}) as response,
        ):
            answer = await response.json()
            assert answer["status"] == "success", (expression, answer)
            return answer["data"]["result"]


def missing_programs() -> list[str]:
    """Return the programs that are not installed."""
    return [program for program in PROGRAMS if not shutil.which(program)]


@asynccontextmanager
async def a_stack(folder: Path) -> AsyncIterator[Stack]:
    """Run everything, and get the daemon into trouble: its receiver is gone, its key rejected."""
    alerts = AlertReceiver()
    async with AsyncExitStack() as stack:
        hook = await stack.enter_async_context(served(alerts.take))
        place = await stack.enter_async_context(a_place(Path(), folder / "place"))
        place.receiver.status = 410
        target = await _start_daemon(stack, place)
        manager = await start_alertmanager(stack, folder, hook)
        url = await _start_prometheus(stack, folder, manager, targets=(target, UNUSED))
        opened = Stack(f"http://{url}", target, alerts.alerts)
        await _until_series(opened, 'sutro_poller_watched_jobs{state="RUNNING"} == 2')
        place.api.remove(ENDS.job_id)  # it ends now, after a scrape that shows it running
        place.api.add(replace(ENDS, run_seconds=0.0))
        await _until_series(opened, "sutro_poller_sink_enabled == 0")
        place.api.key = "sk_another"
        await _until_series(opened, 'sutro_poller_issue{issue="api_key_rejected"} == 1')
        yield opened


async def _start_daemon(stack: AsyncExitStack, place: Place) -> str:
    """Start a daemon, and return the address of its metrics."""
    environment = place.environment(
        {
            "POLLER_JOB_IDS": place.jobs(RUNS, ENDS),
            "POLLER_METRICS_LISTEN": "127.0.0.1:0",
            "POLLER_BUDGET_DAILY": "1",
        }
    )
    command = [sys.executable, "-m", "poller", "run"]
    environment["PYTHONPATH"] = str(ROOT)
    daemon = await stack.enter_async_context(place.started(command, environment))
    (opened,) = await until(lambda: daemon.said("metrics.listening"), within=READY_SECONDS)
    return str(opened["address"]).removeprefix("http://")


async def start_alertmanager(stack: AsyncExitStack, folder: Path, hook: str, **routes: str) -> str:
    """Start an Alertmanager that sends each alert at once, and return its address.

    `routes` are the paths below the URL of the hook that get the alerts with a severity instead.
    """
    route = {"receiver": "hook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
    urls = {"hook": hook} | {severity: hook + path for severity, path in routes.items()}
    matches = [{"receiver": name, "matchers": [f'severity="{name}"']} for name in routes]
    receivers = [{"name": name, "webhook_configs": [{"url": url}]} for name, url in urls.items()]
    document = {"route": route | {"routes": matches}, "receivers": receivers}
    config = _write(folder / "alertmanager.yml", document)
    options = [f"--storage.path={folder / 'alerts'}", "--cluster.listen-address="]
    return await _start(stack, ["prometheus-alertmanager", f"--config.file={config}", *options])


async def _start_prometheus(
    stack: AsyncExitStack, folder: Path, manager: str, *, targets: Sequence[str]
) -> str:
    """Start a Prometheus whose rules do not wait, and return its address."""
    rules = yaml.safe_load(RULES.read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    scrape = {"job_name": "sutro-poller", "static_configs": [{"targets": list(targets)}]}
    document = {
        "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": [str(_write(folder / "rules.yml", rules))],
        "scrape_configs": [scrape],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
    }
    config = _write(folder / "prometheus.yml", document)
    data = f"--storage.tsdb.path={folder / 'series'}"
    return await _start(stack, ["prometheus", f"--config.file={config}", data])


async def _start(stack: AsyncExitStack, command: list[str]) -> str:
    """Start a program at a free port, end it with the stack, and return its address."""
    address = f"127.0.0.1:{stack.enter_context(reserved_port())}"
    process = await anyio.open_process(
        [*command, f"--web.listen-address={address}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.push_async_callback(process.aclose)
    stack.callback(process.kill)
    with anyio.fail_after(READY_SECONDS):
        while not await _is_ready(address):
            assert process.returncode is None, command
            await anyio.sleep(0.2)
    return address


async def _is_ready(address: str) -> bool:
    with suppress(aiohttp.ClientError):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{address}/-/ready") as response,
        ):
            return response.status == 200
    return False


async def _until_series(stack: Stack, expression: str) -> None:
    with anyio.fail_after(READY_SECONDS):
        while not await stack.query(expression):  # noqa: ASYNC110 - it changes in another process
            await anyio.sleep(0.2)


def _write(path: Path, document: object) -> Path:
    """Write a configuration; YAML allows JSON."""
    path.write_text(json.dumps(document), "utf-8")
    return path
