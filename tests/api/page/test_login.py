"""The login of the pages, and who may see them."""

from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.api_server import LiveDaemon, Response, live_daemon
from tests.support.secret_canaries import TOKEN

pytestmark = pytest.mark.anyio

RUNS = JobScript(job_id="job-1", run_seconds=1e5)
PAGES = ("/", "/dead-letters", "/jobs/job-1")
ACTIONS = ("/dead-letters/replay", "/dead-letters/drop", "/sinks/webhook/test", "/logout")


@pytest.fixture
async def locked(tmp_path: Path) -> AsyncIterator[LiveDaemon]:
    """Run a daemon with a token."""
    async with live_daemon(tmp_path, RUNS, POLLER_LISTEN_TOKEN=TOKEN) as daemon:
        yield daemon


async def log_in(daemon: LiveDaemon, token: str, **headers: str) -> Response:
    """Send the form of the login as a browser does."""
    headers = {"Origin": daemon.url} | headers
    return await daemon.request(
        "POST", "/login", data={"token": token}, headers=headers, allow_redirects=False
    )


def cookie_of(response: Response) -> dict[str, str]:
    """Return the header that a browser sends after a login."""
    return {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}


async def test_page_needs_a_login_if_there_is_a_token(locked: LiveDaemon):
    """Without the token, every page is a form for it, and no action is done."""
    pages = [await locked.get(path) for path in PAGES]
    actions = [
        await locked.request("POST", path, headers={"Origin": locked.url}) for path in ACTIONS
    ]
    bearer = await locked.get("/", headers={"Authorization": f"Bearer {TOKEN}"})

    assert {response.status for response in (*pages, *actions)} == {401}
    assert all('action="/login"' in response.text for response in (*pages, *actions))
    assert not any("job-1" in response.text for response in pages)
    assert bearer.status == 200


async def test_login_sets_a_cookie_that_is_not_the_token(locked: LiveDaemon):
    """The right token is exchanged for a cookie that only this process accepts."""
    response = await log_in(locked, TOKEN)
    page = await locked.get("/", headers=cookie_of(response))

    cookie = response.headers["Set-Cookie"]
    assert (response.status, response.headers["Location"]) == (303, "/")
    assert "; HttpOnly; Path=/; SameSite=Strict" in cookie
    assert "Secure" not in cookie
    assert "Max-Age" not in cookie
    assert page.status == 200
    assert "Log out" in page.text


async def test_login_over_tls_sets_a_secure_cookie(tmp_path: Path):
    """Behind a proxy that speaks TLS, the cookie is for TLS alone."""
    changes = {"POLLER_LISTEN_TOKEN": TOKEN, "POLLER_ALLOWED_HOSTS": "box.example"}
    async with live_daemon(tmp_path, RUNS, **changes) as daemon:
        response = await log_in(daemon, TOKEN, Host="box.example", Origin="https://box.example")

    assert "; Secure" in response.headers["Set-Cookie"]


async def test_login_rejects_a_wrong_token(locked: LiveDaemon):
    """A wrong token gets no cookie, and a plain line."""
    for token in ("wrong", f"{TOKEN}x", "\u00fc"):
        response = await log_in(locked, token)

        assert response.status == 401
        assert "Set-Cookie" not in response.headers
        assert "That is not the token." in response.text


@pytest.mark.parametrize("token", ["", "x" * 5_000])
async def test_login_rejects_what_cannot_be_a_token(locked: LiveDaemon, token: str):
    """An empty or very long token is rejected."""
    response = await log_in(locked, token)

    assert response.status == 400
    assert "Set-Cookie" not in response.headers


async def test_cookie_is_for_pages_and_the_stream_alone(locked: LiveDaemon):
    """The cookie opens the pages and the stream of events, and nothing else of the HTTP API."""
    cookie = cookie_of(await log_in(locked, TOKEN))
    pages = [(await locked.get(path, headers=cookie)).status for path in PAGES[:2]]
    others = [await locked.get(path, headers=cookie) for path in ("/v1/status", "/openapi.json")]
    added = await locked.post("/v1/jobs", {"job_ids": ["job-9"]}, headers=cookie)
    url = f"{locked.url}/v1/events/stream"
    async with locked.session.get(url, headers=cookie) as stream:
        begins = await stream.content.readline()
    changed = {"Cookie": cookie["Cookie"][:-1] + "x"}

    assert pages == [200, 200]
    assert {response.problem for response in (*others, added)} == {"unauthorized"}
    assert begins.startswith(b"retry:")
    assert (await locked.get("/", headers=changed)).status == 401


async def test_cookie_ends_with_the_process(tmp_path: Path):
    """Another process has another key, and accepts no cookie of this one."""
    cookies, statuses = [], []
    for _ in range(2):
        async with live_daemon(tmp_path, RUNS, POLLER_LISTEN_TOKEN=TOKEN) as daemon:
            cookies.append(cookie_of(await log_in(daemon, TOKEN))["Cookie"].partition("=")[2])
            name = f"sutro_poller_{daemon.url.rpartition(':')[2]}"
            first = {"Cookie": f"{name}={cookies[0]}"}
            statuses.append((await daemon.get("/", headers=first)).status)

    assert cookies[0] != cookies[1]
    assert statuses == [200, 401]


async def test_logout_removes_the_cookie(locked: LiveDaemon):
    """The browser forgets the cookie."""
    headers = cookie_of(await log_in(locked, TOKEN)) | {"Origin": locked.url}
    response = await locked.request("POST", "/logout", headers=headers, allow_redirects=False)

    assert response.status == 303
    assert "Max-Age=0" in response.headers["Set-Cookie"]


async def test_login_without_a_token_changes_nothing(tmp_path: Path):
    """A daemon without a token sets no cookie."""
    async with live_daemon(tmp_path, RUNS) as daemon:
        response = await log_in(daemon, "anything")

    assert (response.status, response.headers["Location"]) == (303, "/")
    assert "Set-Cookie" not in response.headers


async def test_page_is_not_served_to_others_without_a_token(tmp_path: Path):
    """On an address that others can reach, a daemon without a token serves no page and no file."""
    async with live_daemon(tmp_path, RUNS, POLLER_LISTEN="0.0.0.0:0") as daemon:
        paths = (*PAGES, "/assets/page.css")
        statuses = [(await daemon.get(path)).status for path in paths]
        login = await log_in(daemon, "anything")
        action = await daemon.request("POST", "/sinks/webhook/test", headers={"Origin": daemon.url})

    assert statuses == [403] * len(paths)
    assert (login.status, action.status) == (403, 403)


OTHER_SITES = (
    {"Host": "evil.example"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {},
)


async def test_actions_reject_other_sites(tmp_path: Path):
    """A form of another site, or of one that no header names, changes nothing."""
    async with live_daemon(tmp_path, RUNS) as daemon:
        responses = [
            await daemon.request("POST", path, headers=headers)
            for path, headers in product(ACTIONS, OTHER_SITES)
        ]
        tests = [receipt for receipt in daemon.receiver.received if receipt.type == "poller.test"]

    assert {response.status for response in responses} == {403, 421}
    assert tests == []
