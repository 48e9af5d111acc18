"""The prefix of the API: under /v1, at the root, or as the settings say."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from poller.core.errors import NotFound, PollError, RateLimited, Unauthorized, WrongEndpoint
from poller.runtime.http_client import HttpClient
from poller.runtime.http_values import NoResponse, OutboundSettings, Response
from poller.sutro.client import SutroClient
from tests.support.client_polls import JOB, KEY, NOW, REFUSED, UNKNOWN, body, client, poll_error
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
    "JSON 404": responds(404, b'{"message": "no Route matched with those values"}'),
    "JSON 401": responds(401, REFUSED),
    "JSON 403": responds(403, b'{"message": "Missing Authentication Token"}'),
    "page 403": responds(403, b"<html>"),
    "502": responds(502, b'{"message": "no upstream"}'),
    "503": responds(503, b"upstream connect error or disconnect/reset before headers"),
    "another job": responds(200, body(job_id="job-1")),
    "another object": responds(200, b'{"data": []}'),
    "reset": sends(),
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


@pytest.mark.parametrize("path", ["/deep/er", "/a%2Fb/../%7Euser|v1"])
async def test_explicit_path_is_literal(path: str):
    """A base URL with a path is used as it is, even when nothing there is like the API."""
    async with peer(responds(404)) as it, client(it.base + path) as api:
        for _ in range(2):
            with pytest.raises(WrongEndpoint):
                await api.get_job(JOB)

    assert it.lines == [f"GET {path}/jobs/job-12345 HTTP/1.1"] * 2


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


async def test_public_api_is_tried_at_the_root_first():
    """At the public host the root comes first, as it is documented."""
    async with peer(responds(404), responds(200, body())) as it:
        outbound = OutboundSettings(proxy_for=lambda *_target: it.base)
        async with HttpClient(outbound, timeout=60.0, limit=1) as http:
            api = SutroClient(
                http, base="http://api.sutro.sh", key=lambda: SecretStr(KEY), now=lambda: NOW
            )
            await api.get_job(JOB)

    assert [line.split()[1] for line in it.lines] == [
        "http://api.sutro.sh/jobs/job-12345",
        "http://api.sutro.sh/v1/jobs/job-12345",
    ]


async def test_rate_limit_ends_the_search_for_now():
    """A 429 is the host's: no other prefix is tried before the pause that it asks for."""
    async with peer(responds(429), responds(200, body())) as it, client(it.base) as api:
        with pytest.raises(RateLimited):
            await api.get_job(JOB)
        await api.get_job(JOB)

    assert [line.split()[1] for line in it.lines] == ["/v1/jobs/job-12345", "/jobs/job-12345"]


async def test_key_rejected_at_the_root_is_rejected():
    """Where one prefix is not the API's and the other rejects the key, the key is rejected."""
    async with peer(responds(404), responds(401, REFUSED)) as it, client(it.base) as api:
        with pytest.raises(Unauthorized):
            await api.get_job(JOB)

    assert len(it.lines) == 2


async def test_new_key_is_tried_under_each_prefix():
    """A rejection of one key says nothing about the next, which is tried everywhere at once."""
    keys = [SecretStr("sk_old")]
    handlers = [responds(404), responds(401, REFUSED), responds(404), responds(200, body())]
    async with (
        peer(*handlers) as it,
        HttpClient(OutboundSettings(), timeout=60.0, limit=1) as http,
    ):
        api = SutroClient(http, base=it.base, key=lambda: keys[-1], now=lambda: NOW)
        with pytest.raises(Unauthorized):
            await api.get_job(JOB)
        keys.append(SecretStr("sk_new"))
        await api.get_job(JOB)

    assert api.base == it.base


async def test_prefix_is_searched_again_on_request():
    """After a reload the prefix is searched as at the start: the API may have moved."""
    moved = [responds(200, body()), responds(404), responds(200, body())]
    async with peer(*moved) as it, client(it.base) as api:
        await api.get_job(JOB)
        before = api.base
        api.find_again()
        await api.get_job(JOB)

    assert (before, api.base) == (f"{it.base}/v1", it.base)


@dataclass(frozen=True)
class Answer:
    """What a place responds to a poll, and what that shows at most."""

    status: int
    body: bytes = b"<html>"
    shows: str = "nothing"


ANSWERS: Final = (
    Answer(200, body(), "the API"),
    Answer(404, UNKNOWN, "the API"),
    Answer(401, REFUSED, "a rejection"),
    Answer(403, b'{"message": "Missing Authentication Token"}', "a rejection"),
    Answer(0, shows="an outage"),
    Answer(500, shows="an outage"),
    Answer(503, b"upstream connect error", "an outage"),
    Answer(522, shows="an outage"),
    Answer(429, shows="a limit"),
    Answer(0, shows="a limit"),
    Answer(401),
    Answer(403, b"<title>Just a moment...</title>"),
    Answer(407),
    Answer(404),
    Answer(404, b'{"message": "no Route matched with those values"}'),
    Answer(404, b'{"message": "Cannot GET /v1/jobs/job-12345"}'),
    Answer(302),
    Answer(405),
    Answer(200),
    Answer(200, b'{"job": {"job_id": "job-1", "status": "RUNNING"}}'),
    Answer(200, b'{"data": []}'),
)


class TwoPlaces(HttpClient):
    """A host that responds at each prefix as its `answers` say; keeps the last of each."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.last: dict[str, Answer] = {}
        self.requests = 0

    async def request(self, _method: str, url: str, **_: Any) -> Response:
        """Return the response of a place."""
        prefix = url.removeprefix("http://api").removesuffix(f"/jobs/{JOB}")
        answer = self.last[prefix] = self.answers[prefix]
        self.requests += 1
        if not answer.status:
            raise NoResponse("api: a timeout", is_stale=answer.shows == "a limit")
        return Response(answer.status, {}, answer.body, is_truncated=False)


answers = st.sampled_from(ANSWERS)


@given(
    rounds=st.lists(st.tuples(answers, answers), max_size=8),
    home=st.sampled_from(["/v1", ""]),
    foreign=st.sampled_from([answer for answer in ANSWERS if answer.shows != "the API"]),
)
async def test_weak_signs_prove_no_prefix(rounds, home: str, foreign: Answer):
    """Whatever two places respond, only the API's own words prove where it is.

    The key is rejected only while a place rejects it and none may be an API that is out. At last
    the API responds at one of them: it is found within two polls, whatever the other one says.
    """
    http = TwoPlaces()
    api = SutroClient(http, base="http://api", key=lambda: SecretStr(KEY), now=lambda: NOW)

    async def poll() -> Exception | None:
        try:
            await api.get_job(JOB)
        except PollError as error:
            return error
        return None

    for number, (at_v1, at_root) in enumerate(rounds, 1):
        http.answers = {"/v1": at_v1, "": at_root}
        error = await poll()
        shown = {answer.shows for answer in http.last.values()}
        if "the API" in shown:
            assert error is None or type(error) is NotFound
            return
        assert type(error) is not NotFound
        assert not isinstance(error, Unauthorized) or (
            "a rejection" in shown and "an outage" not in shown
        )
        assert isinstance(error, Unauthorized) or shown != {"a rejection"}
        limited = sum("a limit" in (it.shows for it in both) for both in rounds[:number])
        assert http.requests <= number + 1 + limited

    http.answers = dict.fromkeys(["/v1", ""], foreign) | {home: ANSWERS[0]}
    for _ in range(2):
        error = await poll()
    assert error is None
    assert api._prefixes == (home,)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_error_of_the_public_api_hints_at_sutro_api_url(status: int):
    """A rejection by the public API comes with a hint at SUTRO_API_URL."""
    async with peer(responds(status, REFUSED)) as it:
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
    assert "SUTRO_API_URL" not in str(await poll_error(responds(401, REFUSED)))
