"""Retry-After in all forms, from both ends: no request during the pause, and work after it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
import pytest
from aiohttp import web

from tests.fault_injection.harness import tally
from tests.support.builders import a_job_object
from tests.support.running_app import Handler, an_app, running_app, served
from tests.support.virtual_time import virtual_clock

IMF_FIXDATE = "%a, %d %b %Y %H:%M:%S GMT"
RFC_850 = "%A, %d-%b-%y %H:%M:%S GMT"
ASCTIME = "%a %b %e %H:%M:%S %Y"
HOUR, DAY = 3_600.0, 86_400.0
IN_FLIGHT_SECONDS = 0.5
"""Seconds in which requests in flight arrive when a pause is requested."""
RESUME_SECONDS = 20.0
"""Seconds of the usual interval, the jitter of a pause, and the first retry delay."""
PROMISE = (
    "no request is sent during a Retry-After, in any form, and polling continues right after it"
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.virtual(limit=40 * DAY),
    pytest.mark.usefixtures("quiet"),
]


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """One form of Retry-After. `until`: seconds from the server's own clock, which is `ahead`."""

    text: str | None = None
    until: float = 0.0
    ahead: float = 0.0
    has_date: bool = True
    form: str = IMF_FIXDATE

    def headers(self) -> dict[str, str]:
        """Return the headers of a response sent now."""
        sent = datetime.fromtimestamp(int(virtual_clock().wall() + self.ahead), UTC)
        until = datetime.fromtimestamp(sent.timestamp() + self.until, UTC)
        text = until.strftime(self.form) if self.text is None else self.text
        date = sent.strftime(IMF_FIXDATE) if self.has_date else "today"
        return {"Retry-After": text, "Date": date}


@dataclass(slots=True)
class PausingServer:
    """A server that requests a pause at its first request from `begin` on, then never again."""

    after_pause: Handler
    retry_after: RetryAfter
    status: int
    begin: float = 0.0
    paused_at: float = -1.0
    requested_at: list[float] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, and record its time."""
        at = anyio.current_time()
        self.requested_at.append(at)
        if self.paused_at < 0.0 and at >= self.begin:
            self.paused_at = at
            return web.json_response({}, status=self.status, headers=self.retry_after.headers())
        return await self.after_pause(request)

    def violations(self, seconds: float) -> list[str]:
        """Return the requests during the pause, and a pause that lasts too long."""
        end = self.paused_at + seconds
        during = [at for at in self.requested_at if self.paused_at + IN_FLIGHT_SECONDS < at < end]
        found = [
            f"{self.retry_after}: a request {at - self.paused_at:.1f} s into it" for at in during
        ]
        if not any(end <= at <= end + RESUME_SECONDS for at in self.requested_at):
            found.append(f"{self.retry_after}: nothing within {RESUME_SECONDS:.0f} s after it")
        return found


async def running(request: web.Request) -> web.Response:
    """Answer as an API whose jobs run."""
    return _job(request, status="RUNNING", datetime_completed=None, job_cost=None)


async def ended(request: web.Request) -> web.Response:
    """Answer as an API whose jobs have ended."""
    return _job(request)


def _job(request: web.Request, **fields: object) -> web.Response:
    job_id = request.path.rpartition("/")[2]
    return web.json_response({"job": a_job_object(job_id=job_id, **fields)})


async def accept(_request: web.Request) -> web.Response:
    """Accept an event."""
    return web.Response(status=204)


@asynccontextmanager
async def daemon_between(api: Handler, receiver: Handler) -> AsyncIterator[None]:
    """Run a daemon with a few jobs between two servers."""
    async with served(api) as api_url, served(receiver) as hook_url:
        jobs = ",".join(f"job-{number}" for number in range(4))
        pace = {"POLLER_MIN_INTERVAL": "5s", "POLLER_MAX_INTERVAL": "10s"}
        async with running_app(an_app(api_url + "/v1", hook_url, POLLER_JOB_IDS=jobs, **pace)):
            yield


COMMON_FORMS = [
    (RetryAfter("1"), 1.0),
    (RetryAfter("90"), 90.0),
    (RetryAfter("3600"), HOUR),
    (RetryAfter(until=600.0), 600.0),
    (RetryAfter(until=600.0, ahead=DAY), 600.0),
    (RetryAfter(until=600.0, ahead=-DAY), 600.0),
    (RetryAfter(until=-600.0), 0.0),
    (RetryAfter(until=600.0, form=RFC_850), 600.0),
    (RetryAfter(until=600.0, form=ASCTIME), 600.0),
    (RetryAfter(""), 0.0),
    (RetryAfter("soon"), 0.0),
    (RetryAfter("-5"), 0.0),
    (RetryAfter("30.5"), 30.5),
    (RetryAfter("1e9"), 0.0),
]
API_FORMS = [
    *COMMON_FORMS,
    (RetryAfter(until=600.0, has_date=False), 600.0),
    (RetryAfter(until=600.0, has_date=False, form=ASCTIME), 600.0),
    (RetryAfter("7200"), HOUR),
    (RetryAfter("9" * 30), HOUR),
    (RetryAfter(until=30 * DAY), HOUR),
]
RECEIVER_FORMS = [
    *COMMON_FORMS,
    (RetryAfter("7200"), 2 * HOUR),
    (RetryAfter("9" * 30), DAY),
    (RetryAfter(until=30 * DAY), DAY),
]


@pytest.mark.parametrize("status", [429, 503])
async def test_api_retry_after_is_kept(status: int):
    """With any form of Retry-After, no poll comes before the pause is over, an hour at most."""
    failures = []
    for retry_after, seconds in API_FORMS:
        api = PausingServer(
            running, retry_after, status, begin=anyio.current_time() + RESUME_SECONDS
        )
        async with daemon_between(api.handle, accept):
            await anyio.sleep(seconds + 3 * RESUME_SECONDS)
        failures += api.violations(seconds)

    tally(PROMISE, cases=len(API_FORMS), violations=failures)


@pytest.mark.parametrize("status", [429, 503])
async def test_receiver_retry_after_is_kept(status: int):
    """With any form of Retry-After, no event comes before the pause is over, a day at most."""
    failures = []
    for retry_after, seconds in RECEIVER_FORMS:
        receiver = PausingServer(accept, retry_after, status)
        async with daemon_between(ended, receiver.handle):
            await anyio.sleep(seconds + 2 * RESUME_SECONDS)
        failures += receiver.violations(seconds)

    tally(PROMISE, cases=len(RECEIVER_FORMS), violations=failures)
