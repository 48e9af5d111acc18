"""Responses of a gateway, a proxy or another server in the place of the API's."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from poller.app import App
from poller.core.issues import Issue
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, application
from poller.sutro.source import UNLIKELY_ID
from tests.support.running_app import KEY, Receiver, an_app, running_app, served, served_app
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=200_000.0)

HOUR: Final = 3_600.0
Respond = Callable[[], web.Response]


def in_json(status: int, message: str) -> Respond:
    """Return what a gateway says in JSON."""
    return lambda: web.json_response({"message": message}, status=status)


def in_html(status: int, title: str = "Just a moment...") -> Respond:
    """Return a page."""
    text = f"<html><head><title>{title}</title></head></html>"
    return lambda: web.Response(text=text, status=status, content_type="text/html")


@dataclass
class Gateway:
    """An API of jobs that run for a time each, behind a gateway with rules of its own.

    `respond` is what the gateway says to a request, None to let it through; `passed` counts those.
    """

    api: Simulator = field(
        default_factory=lambda: Simulator(now=virtual_clock().steady, key=KEY, prefixes=("", "/v1"))
    )
    receiver: Receiver = field(default_factory=Receiver)
    respond: Callable[[str], Respond | None] = lambda _path: None
    paths: list[str] = field(default_factory=list)

    def add(self, *job_ids: str, run_seconds: float = 600.0) -> None:
        """Submit jobs."""
        for job_id in job_ids:
            self.api.add(JobScript(job_id=job_id, queue_seconds=0.0, run_seconds=run_seconds))

    @property
    def ends(self) -> list[str]:
        """The ids of the jobs whose ends were delivered."""
        return [
            event["data"]["job"]["job_id"]
            for event in self.receiver.events
            if "job" in event["data"]
        ]

    @asynccontextmanager
    async def polled(self, prefix: str = "/v1", **changes: Any) -> AsyncIterator[App]:
        """Run a daemon that polls through the gateway while the block runs."""

        @web.middleware
        async def gateway(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            self.paths.append(request.path)
            respond = self.respond(request.path)
            return respond() if respond else await handler(request)

        app = application(self.api)
        app.middlewares.append(gateway)
        async with (
            served_app(app) as url,
            served(self.receiver.take) as hook,
            running_app(an_app(url + prefix, hook, **changes)) as daemon,
        ):
            yield daemon
            await anyio.sleep(1.0)


DISCOVERING: Final = {"POLLER_JOB_IDS": "", "POLLER_DISCOVER": "on"}


@pytest.mark.parametrize(
    "foreign",
    [
        in_json(401, "Unauthorized"),
        in_json(403, "Missing Authentication Token"),
        in_json(404, "no Route matched with those values"),
        in_json(502, "no upstream"),
        in_html(403),
        in_html(200),
    ],
)
@pytest.mark.parametrize("changes", [{"POLLER_JOB_IDS": "job-1"}, DISCOVERING])
async def test_api_at_the_root_behind_a_gateway(foreign: Respond, changes: dict[str, str]):
    """An API at the root is found, whatever a gateway says about paths that it does not know."""
    gateway = Gateway(respond=lambda path: foreign if path.startswith("/v1/") else None)
    async with gateway.polled("", **changes) as app:
        gateway.add("job-1")
        await anyio.sleep(HOUR)
        issues = app.status.issues

    assert gateway.receiver.types == ["job.succeeded"]
    assert issues == ()
    assert sum(path.startswith("/v1/") for path in gateway.paths) == 1


@pytest.mark.parametrize("jobs", [1, 2, 3])
async def test_gateway_without_a_route_makes_no_job_missing(jobs: int):
    """A gateway that has lost its route, and says so in JSON, makes no job missing."""
    gateway, ids = Gateway(), [f"job-{number}" for number in range(jobs)]
    gateway.add(*ids, run_seconds=2 * HOUR)
    async with gateway.polled(POLLER_JOB_IDS=",".join(ids)) as app:
        await anyio.sleep(300.0)
        gateway.respond = lambda _path: in_json(404, "no Route matched with those values")
        await anyio.sleep(1_200.0)
        issues = app.status.issues
        gateway.respond = lambda _path: None
        await anyio.sleep(2 * HOUR)

    assert issues[0] is Issue.WRONG_ENDPOINT
    assert gateway.receiver.types == ["job.succeeded"] * jobs


@pytest.mark.parametrize("status", [401, 403, 407])
@pytest.mark.parametrize("changes", [{"POLLER_JOB_IDS": "job-1,job-2"}, DISCOVERING])
async def test_page_of_an_edge_is_no_rejected_key(status: int, changes: dict[str, str]):
    """While an edge blocks all requests, polls are few, and the log names its page, not the key."""
    gateway = Gateway()
    gateway.add("job-1", "job-2", run_seconds=2 * HOUR)
    with capture_logs() as logs:
        async with gateway.polled(POLLER_WEBHOOK_EVENTS="*", **changes) as app:
            await anyio.sleep(300.0)
            gateway.respond, gateway.paths = lambda _path: in_html(status), []
            await anyio.sleep(HOUR)
            requests, issues = len(gateway.paths), app.status.issues
            gateway.respond = lambda _path: None
            await anyio.sleep(2 * HOUR)

    assert requests <= 10
    assert issues == (Issue.API_UNREACHABLE,)
    assert "poller.auth_failed" not in gateway.receiver.types
    assert sorted(gateway.ends) == ["job-1", "job-1", "job-2", "job-2"]
    errors = {line["error"] for line in logs if line["event"].endswith(".failed")}
    assert len(errors) == 1
    assert ("POLLER_PROXY" if status == 407 else '"Just a moment..."') in errors.pop()


# Discovery alone.


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("is_at_start", [True, False])
async def test_rejected_key_with_discovery_alone(tmp_path: Path, status: int, is_at_start: bool):
    """A key that is rejected where nothing but the list is polled is announced, and read again."""
    gateway, file = Gateway(), tmp_path / "key"
    file.write_text(KEY)
    changes = DISCOVERING | {"SUTRO_API_KEY": "", "SUTRO_API_KEY_FILE": str(file)}
    gateway.api.key = "sk_new" if is_at_start else KEY
    rejection = in_json(status, "The API key is not valid.")
    gateway.respond = lambda _path: rejection if gateway.api.key != file.read_text() else None
    async with gateway.polled(POLLER_WEBHOOK_EVENTS="*", **changes) as app:
        await anyio.sleep(100.0)
        gateway.api.key = "sk_new"
        gateway.paths.clear()
        await anyio.sleep(HOUR)
        requests, issues = len(gateway.paths), app.status.issues
        file.write_text("sk_new")
        await anyio.sleep(960.0)
        gateway.add("job-1", run_seconds=60.0)
        await anyio.sleep(300.0)

    assert issues[0] is Issue.API_KEY_REJECTED
    assert requests <= 10
    assert gateway.receiver.types == [
        "poller.auth_failed",
        "poller.auth_recovered",
        "job.started",
        "job.succeeded",
    ]


@pytest.mark.parametrize("job_ids", [(), (UNLIKELY_ID,)])
async def test_list_that_is_forbidden_alone_is_no_rejected_key(job_ids: tuple[str, ...]):
    """A 403 of the list alone is checked by one GET, and is an issue, but not the key's fault."""
    gateway = Gateway()
    gateway.add(*job_ids)
    forbidden = in_json(403, "You may not list jobs.")
    gateway.respond = lambda path: forbidden if path.endswith("list-jobs") else None
    with capture_logs() as logs:
        async with gateway.polled(POLLER_WEBHOOK_EVENTS="*", **DISCOVERING) as app:
            await anyio.sleep(6 * HOUR)
            before, types, requests = (
                app.status.issues,
                [*gateway.receiver.types],
                len(gateway.paths),
            )
            gateway.respond = lambda _path: None
            app.reload()
            await anyio.sleep(60.0)
            after = app.status.issues

    assert Issue.LIST_REJECTED in before
    assert Issue.LIST_REJECTED not in after
    assert types == []
    assert requests <= 20
    assert {line["error"] for line in logs if line["event"] == "discovery.unavailable"} == {
        "the API forbids the list of jobs (403)"
    }


@pytest.mark.parametrize(
    "odd",
    [
        in_json(404, "Not Found"),
        in_json(403, "Forbidden"),
        in_json(400, "Bad Request"),
        in_html(403),
        lambda: web.Response(status=302, headers={"Location": "/login"}),
    ],
)
async def test_one_odd_response_does_not_blind_discovery(odd: Respond):
    """After one odd response to the list, a job is discovered about a minute later."""
    gateway, odds = Gateway(), [odd]
    async with gateway.polled(**DISCOVERING):
        await anyio.sleep(95.0)
        gateway.respond = lambda path: odds.pop() if odds and path.endswith("list-jobs") else None
        await anyio.sleep(40.0)
        gateway.add("job-1", run_seconds=10.0)
        await anyio.sleep(90.0)

    assert gateway.ends == ["job-1"]


@pytest.mark.parametrize(
    "foreign",
    [
        in_json(404, "Not Found"),
        in_json(405, "Method Not Allowed"),
        in_html(404, "Not Found"),
        in_html(200, "Welcome"),
        lambda: web.json_response({"data": []}),
    ],
)
async def test_wrong_url_with_discovery_alone_is_an_issue(foreign: Respond):
    """A URL of another server is an issue within a minute, though no job is polled."""
    gateway = Gateway(respond=lambda _path: foreign)
    async with gateway.polled("", **DISCOVERING) as app:
        await anyio.sleep(60.0)
        issues = app.status.issues

    assert issues == (Issue.WRONG_ENDPOINT,)


# SIGHUP.


@pytest.mark.parametrize(
    "trouble",
    [
        in_json(401, "The API key is not valid."),
        in_json(403, "The API key is not valid."),
        in_json(404, "Not Found"),
        in_json(503, "down"),
        in_html(403),
    ],
)
async def test_reload_retries_what_failed(trouble: Respond):
    """However long everything has failed, SIGHUP tries gate, list and prefix anew."""
    gateway = Gateway(respond=lambda _path: trouble)
    async with gateway.polled("", **DISCOVERING) as app:
        await anyio.sleep(5 * HOUR)
        gateway.add("job-1", run_seconds=0.0)
        gateway.respond = lambda path: trouble if path.startswith("/v1/") else None
        app.reload()
        await anyio.sleep(5.0)

    assert gateway.ends == ["job-1"]


async def test_reload_finds_an_api_that_moved():
    """After SIGHUP the API is found under another prefix than before."""
    gateway = Gateway()
    gateway.add("job-1", run_seconds=300.0)
    async with gateway.polled("") as app:
        await anyio.sleep(60.0)
        moved = in_json(404, "Not Found")
        gateway.respond = lambda path: moved if path.startswith("/v1/") else None
        await anyio.sleep(600.0)
        before = list(gateway.ends)
        app.reload()
        await anyio.sleep(120.0)

    assert (before, gateway.ends) == ([], ["job-1"])
