"""The prefix of the API: under /v1, at the root, or as the settings say."""

from contextlib import suppress
from typing import Any, Final

import anyio
import pytest
from pydantic import SecretStr

from poller.core.errors import NotFound, PollError, Unauthorized, WrongEndpoint
from poller.runtime.http_client import HttpClient
from poller.runtime.http_values import OutboundSettings, Response
from poller.sutro.client import SutroClient
from tests.support.client_polls import JOB, KEY, NOW, UNKNOWN, body, client, poll_error
from tests.support.http_peers import ConnectionHandler, peer, responds, sends


async def test_prefix_v1_is_tried_first():
    """With a bare origin the API is tried under /v1 first, and kept there."""
    async with peer(responds(200, body())) as it, client(it.base) as api:
        before = api.base
        await api.get_job(JOB)
        await api.get_job(JOB)

    assert it.lines == ["GET /v1/jobs/job-12345 HTTP/1.1"] * 2
    assert (before, api.base) == (it.base, f"{it.base}/v1")


FOREIGN: Final = {
    "404": responds(404, b"<html>"),
    "HTML": responds(200, b"<html>"),
    "redirect": responds(308, location="/"),
    "405": responds(405),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("found", [responds(200, body()), responds(404, UNKNOWN)])
async def test_prefix_root_is_tried_next(name: str, found: ConnectionHandler):
    """Where /v1 does not respond like the API, the root is tried at once, and kept if it does."""
    async with peer(FOREIGN[name], found) as it, client(it.base) as api:
        for _ in range(2):
            try:
                await api.get_job(JOB)
            except NotFound:
                continue

    assert [it.split()[1] for it in it.lines] == [
        "/v1/jobs/job-12345",
        *["/jobs/job-12345"] * 2,
    ]
    assert api.base == it.base


async def test_prefix_is_kept_after_the_apis_own_404():
    """The API's own 404 is a response of the API: its prefix is kept from then on."""
    async with peer(responds(404, UNKNOWN), responds(404)) as it, client(it.base) as api:
        with pytest.raises(NotFound):
            await api.get_job(JOB)
        with pytest.raises(WrongEndpoint):
            await api.get_job(JOB)

    assert it.lines == ["GET /v1/jobs/job-12345 HTTP/1.1"] * 2


async def test_explicit_path_is_literal():
    """A base URL with a path is used as it is, even when nothing there is like the API."""
    async with peer(responds(404)) as it, client(f"{it.base}/deep/er") as api:
        for _ in range(2):
            with pytest.raises(WrongEndpoint):
                await api.get_job(JOB)

    assert it.lines == ["GET /deep/er/jobs/job-12345 HTTP/1.1"] * 2


async def test_prefixes_alternate_after_the_first_request():
    """Where the API is nowhere, both prefixes are tried at once only once, then in turns."""
    async with peer(responds(404)) as it, client(it.base) as api:
        for _ in range(4):
            with pytest.raises(WrongEndpoint):
                await api.get_job(JOB)

    assert [line.split()[1].removesuffix("/jobs/job-12345") for line in it.lines] == [
        *("/v1", ""),
        *("/v1", "", "/v1"),
    ]


async def test_prefix_is_found_when_the_api_comes_up():
    """An API that was nowhere at first is found wherever it comes up."""
    async with peer(*[responds(404)] * 4, responds(200, body())) as it, client(it.base) as api:
        for _ in range(3):
            with pytest.raises(WrongEndpoint):
                await api.get_job(JOB)
        await api.get_job(JOB)
        await api.get_job(JOB)

    assert api.base == f"{it.base}/v1"
    assert it.lines[-1] == "GET /v1/jobs/job-12345 HTTP/1.1"


class FirstIsLast(HttpClient):
    """Responds with these statuses; the first request gets its response after the third."""

    def __init__(self, *statuses: int) -> None:
        self.urls: list[str] = []
        self._statuses = statuses
        self._third = anyio.Event()

    async def request(self, _method: str, url: str, **_: Any) -> Response:
        """Return the next response."""
        self.urls.append(url)
        number = len(self.urls)
        if number == 1:
            await self._third.wait()
        elif number == 3:
            self._third.set()
        status = self._statuses[number - 1]
        return Response(status, {}, body() if status == 200 else b"<html>", is_truncated=False)


async def test_prefix_stays_found_when_an_earlier_request_fails_at_another():
    """A late foreign response at the other prefix does not undo what another request found."""
    http = FirstIsLast(404, 404, 200, 500, 404, 200)
    api = SutroClient(http, base="http://api", key=lambda: SecretStr(KEY), now=lambda: NOW)

    async def poll() -> None:
        with suppress(PollError):
            await api.get_job(JOB)

    async with anyio.create_task_group() as polls:
        polls.start_soon(poll)
        polls.start_soon(poll)
    await poll()
    await poll()

    v1, root = "http://api/v1/jobs/job-12345", "http://api/jobs/job-12345"
    assert http.urls == [v1, v1, root, root, root, root]


@pytest.mark.parametrize("handler", [responds(401), responds(429), responds(500), sends()])
async def test_outage_pins_no_prefix(handler: ConnectionHandler):
    """A rejection and an outage do not show where the API is, and cost one request."""
    async with peer(handler, responds(200, body())) as it, client(it.base) as api:
        with pytest.raises(PollError):
            await api.get_job(JOB)
        await api.get_job(JOB)

    assert it.lines == ["GET /v1/jobs/job-12345 HTTP/1.1"] * 2


async def test_key_rejected_at_the_root_costs_one_request_from_then_on():
    """A key that the root rejects is tried there again, not at the prefix that is not the API."""
    async with peer(responds(404), responds(401)) as it, client(it.base) as api:
        for _ in range(3):
            with pytest.raises(Unauthorized):
                await api.get_job(JOB)

    assert [line.split()[1] for line in it.lines] == [
        "/v1/jobs/job-12345",
        *["/jobs/job-12345"] * 3,
    ]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_error_of_the_public_api_hints_at_sutro_api_url(status: int):
    """A rejection by the public API comes with a hint at SUTRO_API_URL."""
    async with peer(responds(status)) as it:
        outbound = OutboundSettings(proxy_for=lambda *_target: it.base)
        async with HttpClient(outbound, timeout=60.0, limit=1) as http:
            api = SutroClient(
                http,
                base="http://api.sutro.sh/v1",
                key=lambda: SecretStr(KEY),
                now=lambda: NOW,
            )
            with pytest.raises(PollError, match="deployment of your own, set SUTRO_API_URL"):
                await api.get_job(JOB)


async def test_error_of_an_own_deployment_has_no_hint():
    """Another host's rejection comes without the hint."""
    assert "SUTRO_API_URL" not in str(await poll_error(responds(401)))
