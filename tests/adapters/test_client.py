"""One request to the API: how it is made, and the meaning of each status."""

import json
from dataclasses import replace
from typing import Any, Final

import pytest
from pydantic import SecretStr

from poller.core.errors import (
    Intercepted,
    MalformedResponse,
    NotFound,
    PollError,
    RateLimited,
    Rejected,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.job_status import JobStatus
from poller.runtime.http_client import HttpClient
from poller.runtime.http_values import OutboundSettings
from poller.sutro.client import SutroClient
from tests.support.builders import a_job
from tests.support.client_polls import DATE, JOB, NOW, REFUSED, UNKNOWN, body, client, poll_error
from tests.support.http_peers import peer, responds

# The request.


async def test_client_request():
    """A job is requested by GET under the base URL, with the key in the API's own scheme."""
    async with peer(responds(200, body())) as it, client(f"{it.base}/v1") as api:
        job = await api.get_job(JOB)

    assert (job.job_id, job.status, job.job_cost) == (JOB, JobStatus.SUCCEEDED, 0.0234)
    assert it.lines == ["GET /v1/jobs/job-12345 HTTP/1.1"]
    assert it.header("Authorization") == "Key sk_canary"


async def test_unchanged_job_is_not_parsed():
    """A job that has not changed is the known one."""
    going = responds(200, body(status="RUNNING", datetime_completed=None))
    async with peer(going) as it, client(f"{it.base}/v1") as api:
        before = await api.get_job(JOB)
        after = await api.get_job(JOB, {JOB: before}.get)

    assert after is before


async def test_key_is_read_for_each_request():
    """A key that was replaced counts from the next request on."""
    keys = ["sk_new", "sk_old"]
    async with (
        peer(responds(200, body())) as it,
        HttpClient(OutboundSettings(), timeout=60.0, limit=1) as http,
    ):
        api = SutroClient(
            http, base=f"{it.base}/v1", key=lambda: SecretStr(keys.pop()), now=lambda: NOW
        )
        seen = [(await api.get_job(JOB), it.header("Authorization"))[1] for _ in range(2)]

    assert seen == ["Key sk_old", "Key sk_new"]


@pytest.mark.parametrize(
    ("job_id", "path"),
    [
        ("team/job:1", "team%2Fjob%3A1"),
        ("a?b#c", "a%3Fb%23c"),
        ("../a%2F", "..%2Fa%252F"),
        ("x" * 256, "x" * 256),
    ],
)
async def test_job_id_is_one_segment_of_the_path(job_id: str, path: str):
    """An id with characters that mean something in a URL is encoded."""
    async with peer(responds(200, body(job_id=job_id))) as it, client(f"{it.base}/v1") as api:
        job = await api.get_job(job_id)

    assert (job.job_id, it.lines) == (job_id, [f"GET /v1/jobs/{path} HTTP/1.1"])


# Statuses.

STATUSES: Final = (
    dict.fromkeys((201, 202, 203, 204, 205, 206, 299), MalformedResponse)
    | dict.fromkeys((300, 301, 302, 303, 304, 307, 308, 399), WrongEndpoint)
    | dict.fromkeys((400, 402, 405, 406, 409, 410, 411, 412, 413, 414, 415), Rejected)
    | dict.fromkeys((416, 417, 418, 421, 422, 423, 424, 426, 428, 431, 451, 499), Rejected)
    | dict.fromkeys((401, 403, 407), Intercepted)
    | {404: WrongEndpoint, 408: Transient, 425: Transient, 429: RateLimited, 501: Rejected}
    | dict.fromkeys((500, 502, 503, 504, 505, 507, 508, 511, *range(520, 531)), Transient)
    | dict.fromkeys((598, 599, 600, 999), Transient)
)


@pytest.mark.parametrize(("status", "kind"), sorted(STATUSES.items()))
@pytest.mark.parametrize("html", [b"", b"<html>canary</html>"])
async def test_response_statuses(status: int, kind: type[PollError], html: bytes):
    """Each status means what the caller can do about it; only the body of a 200 shows a job."""
    html = b"" if status in {204, 304} else html
    error = await poll_error(responds(status, html))

    assert type(error) is kind
    assert f"({status})" in str(error)
    assert "canary" not in str(error)


async def test_501_asks_for_the_url():
    """A plain web server that knows no such request is told from the API by its URL."""
    error = await poll_error(responds(501))

    assert str(error) == "this server does not support the request (501): check SUTRO_API_URL"


@pytest.mark.parametrize("status", sorted(STATUSES))
async def test_job_in_an_error_response_is_ignored(status: int):
    """A job object shows nothing when its status is not 200."""
    assert await poll_error(responds(status, b"" if status in {204, 304} else body()))


@pytest.mark.parametrize("status", [401, 403])
async def test_unauthorized_has_its_status(status: int):
    """A rejection by the API, which is JSON, keeps its status: a 403 can be about one job."""
    error = await poll_error(responds(status, REFUSED))

    assert isinstance(error, Unauthorized)
    assert error.status == status


PAGES: Final = {
    b"<html><head><title>Just a\n moment...</title>": ': "Just a moment..."',
    b"<HTML><TITLE lang=en>Attention &amp; Required!</TITLE>": ': "Attention & Required!"',
    b"<title>" + b"x" * 500 + b"</title>": f': "{"x" * 80}"',
    b"<title>\x1b[2J\xff</title>": ': "[2J\ufffd"',
    b"<title></title>": "",
    b"RBAC: access denied": "",
    b'"Unauthorized"': "",
    b"[]": "",
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("status", [401, 403])
async def test_page_of_a_proxy_says_nothing_about_the_key(status: int, page: bytes):
    """A 401 or 403 that is no JSON object is not the API's: the error has the title of the page."""
    error = await poll_error(responds(status, page))

    assert type(error) is Intercepted
    assert str(error) == (
        f"a proxy or firewall, not the API, rejected the request ({status})" + PAGES[page]
    )


async def test_proxy_that_requires_a_login():
    """A 407 is a proxy's, whatever its body is, and names the variables."""
    error = await poll_error(responds(407, REFUSED))

    assert type(error) is Intercepted
    assert "POLLER_PROXY" in str(error)


@pytest.mark.parametrize(
    ("status", "text", "pause"),
    [
        (429, "7", 7.0),
        (429, "Mon, 15 Jan 2024 10:30:09 GMT", 9.0),
        (429, "100000", 3_600.0),
        (429, "-7", None),
        (429, "junk", None),
        (503, "7", 7.0),
    ],
)
async def test_rate_limit_response(status: int, text: str, pause: float | None):
    """A pause is what Retry-After says, an hour at most; a senseless one is no time."""
    error = await poll_error(responds(status, b"{}", retry_after=text, date=DATE))

    assert isinstance(error, RateLimited)
    assert error.retry_after == pause


async def test_503_with_a_bad_retry_after_is_transient():
    """A 503 whose Retry-After is junk is an outage like any other."""
    assert type(await poll_error(responds(503, b"", retry_after="junk"))) is Transient


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (UNKNOWN, NotFound),
        (b'{"message": "job-12345: not found"}', NotFound),
        (b'{"message": "There is no job \\"job-12345\\"."}', NotFound),
        (b'{"message": "No job found with ID job-123456"}', WrongEndpoint),
        (b'{"message": "No job found with ID my-job-12345"}', WrongEndpoint),
        (b'{"message": "no Route matched with those values"}', WrongEndpoint),
        (b'{"message": "Cannot GET /v1/jobs/job-12345", "statusCode": 404}', WrongEndpoint),
        (b'{"message": "Not Found"}', WrongEndpoint),
        (b'{"message": null}', WrongEndpoint),
        (b'{"detail": "Not Found"}', WrongEndpoint),
        (b"[]", WrongEndpoint),
        (b"<html>", WrongEndpoint),
        (b"", WrongEndpoint),
    ],
)
async def test_404_of_the_api(text: bytes, kind: type[PollError]):
    """A 404 concerns the job only when it is the API's own, which names the job, not its path."""
    assert type(await poll_error(responds(404, text))) is kind


# Redirects.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["other", "same", "none"])
async def test_redirect_is_not_followed(status: int, place: str):
    """No redirect is followed, wherever it points: the key would travel."""
    async with peer(responds(200, body())) as other, peer(responds(200, body())) as it:
        base = {"other": other.base, "same": it.base}.get(place)
        headers = {"location": f"{base}/jobs/{JOB}"} if base else {}
        async with peer(responds(status, **headers)) as first, client(f"{first.base}/v1") as api:
            with pytest.raises(WrongEndpoint, match="never followed"):
                await api.get_job(JOB)

    assert len(first.requests) == 1
    assert other.requests == it.requests == []


# The clock.


@pytest.mark.parametrize(
    ("date", "clock_skew"),
    [
        ("Mon, 15 Jan 2024 10:30:42 GMT", 42.5),
        ("junk", 0.0),
        ("Mon, 15 Jan 2024 10:30:42 +99999999999999", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 -1200", 0.0),
        ("Mon, 15 Jan 2024 10:29:00 GMT", -59.5),
    ],
)
@pytest.mark.parametrize("status", [200, 500])
async def test_clock_skew_of_responses(date: str, clock_skew: float, status: int):
    """Every response's Date shows the API's clock; junk shows nothing."""
    async with peer(responds(status, body(), date=date)) as it, client(f"{it.base}/v1") as api:
        try:
            await api.get_job(JOB)
        except Transient:
            assert status == 500

    assert api.clock_skew == clock_skew


# The status alone.


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"job_status": {JOB: "failed"}, "metadata": None}, None),
        ({"job_status": {JOB: "FAILED"}}, None),
        ({"job_status": "Failed"}, None),
        (
            {"job_status": {JOB: "ERROR"}, "metadata": {"failure_reason": {"message": "no GPU"}}},
            {"message": "no GPU"},
        ),
    ],
)
async def test_get_status(answer: dict[str, Any], reason: dict[str, str] | None):
    """A job's status is available without its object, with the reason of a failure."""
    text = json.dumps(answer).encode()
    async with peer(responds(200, text)) as it, client(f"{it.base}/v1") as api:
        job = await api.get_status(JOB)

    assert it.lines == ["GET /v1/job-status/job-12345 HTTP/1.1"]
    assert (job.job_id, job.status, job.failure_reason) == (JOB, JobStatus.FAILED, reason)


async def test_get_status_keeps_what_is_known():
    """The other fields of the job are as they were known before."""
    known = a_job("RUNNING", job_id=JOB, model="llama")
    text = json.dumps({"job_status": {JOB: "SUCCEEDED"}}).encode()
    async with peer(responds(200, text)) as it, client(f"{it.base}/v1") as api:
        job = await api.get_status(JOB, {JOB: known}.get)

    assert job == replace(known, status=JobStatus.SUCCEEDED)


@pytest.mark.parametrize("words", [None, [], "", 7, {}, {"job-1": "FAILED"}, {JOB: None}])
async def test_get_status_of_another_job_is_malformed(words: object):
    """A status that is not that of the requested job is no observation."""
    text = json.dumps({"job_status": words}).encode()
    async with peer(responds(200, text)) as it, client(f"{it.base}/v1") as api:
        with pytest.raises(MalformedResponse):
            await api.get_status(JOB)
