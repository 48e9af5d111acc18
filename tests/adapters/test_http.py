"""The HTTP client: hostile peers, connections, cookies and the environment."""

import gzip
import tracemalloc

import anyio
import pytest

from poller.runtime.http_client import LARGE_BODY_BYTES
from poller.runtime.http_values import NoResponse
from tests.support.http_peers import (
    BREAKING,
    CHUNKED,
    OK,
    STALLING,
    ConnectionHandler,
    drips,
    floods,
    peer,
    read_request,
    reply,
    resets,
    responds,
    sends,
    stalls,
)
from tests.support.http_requests import CAP, fails, failure, get, session

# Hostile peers.


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize("name", sorted(set(BREAKING) - {"switching protocols"}))
async def test_http_response_that_is_cut_off(name: str):
    """A response that is cut off or is not HTTP ends the request at once."""
    async with peer(BREAKING[name]) as server:
        text = await failure(f"{server.base}/secret?q=secret")

    assert "secret" not in text
    assert anyio.current_time() < 1.0


@pytest.mark.virtual(limit=60.0)
async def test_http_peer_that_responds_first():
    """A peer that closes the connection without reading the request is an error."""
    async with peer(sends(), skips_request=True) as server:
        text = await failure(server.base)

    assert text.startswith("127.0.0.1: the connection was ")


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize("name", sorted(STALLING))
async def test_http_response_that_never_ends(name: str):
    """A peer that sends slowly or stops ends at the deadline of the whole request."""
    async with peer(STALLING[name]) as server:
        text = await failure(f"{server.base}/secret", limit=30.0)

    assert text.removesuffix(" (status 200)") == "127.0.0.1: no complete response within 30 s"
    assert 30.0 <= anyio.current_time() <= 31.0


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize(
    "handler",
    [
        floods(CHUNKED, b"10000\r\n" + b" " * 65_536 + b"\r\n"),
        floods(OK + b"\r\n", b" " * 65_536),
        floods(OK + b"Content-Length: 8000000000\r\n\r\n", b" " * 65_536),
    ],
)
async def test_http_body_without_end(handler: ConnectionHandler):
    """A body is read up to the cap and no further, whatever its Content-Length."""
    async with peer(handler) as server, session() as http:
        response = await get(http, server.base)

    assert (response.is_truncated, len(response.body)) == (True, CAP)


@pytest.mark.parametrize("cap", [10, LARGE_BODY_BYTES, LARGE_BODY_BYTES + 100_000])
@pytest.mark.parametrize("excess", [-1, 0, 1])
async def test_http_cap_is_exact(cap: int, excess: int):
    """A body of the size of the cap is complete; with one byte more it is truncated."""
    async with peer(responds(200, b"x" * (cap + excess))) as server, session() as http:
        response = await get(http, server.base, cap=cap)

    assert (len(response.body), response.is_truncated) == (cap + min(excess, 0), excess > 0)


@pytest.mark.virtual(limit=60.0)
async def test_http_holds_two_large_bodies_at_most():
    """Of many large bodies only two are in memory beyond 256 KiB at the same time."""

    async def large(stream) -> None:
        await stream.send(OK + b"Content-Length: 3000001\r\n\r\n")
        for _ in range(30):
            await stream.send(b" " * 100_000)
        await stalls()(stream)

    async with peer(large) as server, session() as http, anyio.create_task_group() as group:
        tracemalloc.start()
        for _ in range(10):
            group.start_soon(fails, http, server.base, [])
        await anyio.sleep(5.0)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert held < 20_000_000


@pytest.mark.virtual(limit=120.0)
async def test_http_large_body_that_waits_ends_at_its_own_deadline():
    """A large body behind two slow ones ends at its own deadline, not at theirs."""
    ended: list[float] = []
    large = OK + b"Content-Length: 3000000\r\n\r\n" + b" " * (LARGE_BODY_BYTES + 100_000)

    async def late(stream) -> None:
        await anyio.sleep(20.0)
        await stream.send(large)
        await stalls()(stream)

    async with (
        peer(late, drips(large, b" ")) as server,
        session() as http,
        anyio.create_task_group() as group,
    ):
        group.start_soon(fails, http, server.base, ended)
        await anyio.sleep(15.0)
        group.start_soon(fails, http, server.base, [])
        group.start_soon(fails, http, server.base, [])

    assert ended == [pytest.approx(30.0, abs=1.1)]


@pytest.mark.virtual(limit=60.0)
async def test_http_slow_peers_delay_no_other_request():
    """With fifteen slow responses, other requests get theirs without any delay."""
    async with (
        peer(drips(OK + b"Content-Length: 9000000\r\n\r\n" + b" " * 300_000, b" ")) as hostile,
        peer(responds(200, b"{}")) as good,
        session() as http,
        anyio.create_task_group() as group,
    ):
        for _ in range(15):
            group.start_soon(fails, http, hostile.base, [])
        await anyio.sleep(1.0)
        began = anyio.current_time()
        for _ in range(20):
            await get(http, good.base)
        took = anyio.current_time() - began
        group.cancel_scope.cancel()

    assert took == 0.0


async def test_http_body_is_not_decompressed():
    """A compressed body stays compressed, so that it takes its own size only."""
    bomb = gzip.compress(b" " * 50_000_000)

    async with peer(responds(200, bomb, content_encoding="gzip")) as server, session() as http:
        response = await get(http, server.base)

    assert response.body == bomb
    assert server.header("Accept-Encoding") == "identity"


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Security-Policy: " + b"x" * 60_000 + b"\r\n",
        b"".join(b"X-Odd-%d: 1\r\n" % number for number in range(480)),
        b"Link: " + b"x" * 30_000 + b"\r\nContent-Security-Policy: " + b"x" * 30_000 + b"\r\n",
    ],
    ids=["one of 60 kB", "480", "two of 30 kB"],
)
async def test_http_response_with_many_or_long_headers(headers: bytes):
    """Headers as long as edges and proxies send them do not cost the response."""
    text = OK + headers + b"Content-Length: 2\r\n\r\n{}"
    async with peer(sends(text)) as server, session() as http:
        response = await get(http, server.base)

    assert (response.status, response.body) == (200, b"{}")


async def test_http_headers_without_end_take_little_memory():
    """Of a header that never ends no more than some hundred kilobytes are kept."""
    line = b"X-Long: " + b"a" * 60_000 + b"\r\n"
    async with peer(floods(OK, line)) as server:
        tracemalloc.start()
        text = await failure(server.base)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert text == "127.0.0.1: the response is not HTTP (status 200)"
    assert peak < 5_000_000


async def test_http_status_of_a_reused_connection():
    """The status of one response is not taken for that of the next on the same connection."""

    async def handler(stream) -> None:
        await stream.send(reply(200, b"{}", connection="keep-alive"))
        await read_request(stream)

    async with peer(handler) as server, session() as http:
        await get(http, server.base)
        with pytest.raises(NoResponse) as caught:
            await get(http, server.base)

    assert caught.value.status is None


# Connections, cookies, environment.


async def test_http_connection_is_reused():
    """The second request to a host uses the connection of the first."""

    async def handler(stream) -> None:
        while True:
            await stream.send(reply(200, b"{}", connection="keep-alive"))
            await read_request(stream)

    async with peer(handler, sends()) as server, session() as http:
        seen = [(await get(http, server.base)).body for _ in range(3)]

    assert seen == [b"{}"] * 3


@pytest.mark.parametrize(
    ("handler", "is_stale"),
    [
        (stalls(), True),
        (sends(), True),
        (resets(), True),
        (sends(b"H"), False),
        (stalls(OK), False),
    ],
)
@pytest.mark.virtual(limit=200.0)
async def test_http_stale_connection(handler: ConnectionHandler, is_stale: bool):
    """A reused connection that brings not a byte is stale; the next request avoids all of them."""

    async def once(stream) -> None:
        await stream.send(reply(200, b"{}", connection="keep-alive"))
        await read_request(stream)
        await handler(stream)

    async with peer(once) as server, session() as http:
        await get(http, server.base)
        with pytest.raises(NoResponse) as caught:
            await get(http, server.base)
        await get(http, server.base)

    assert caught.value.is_stale == is_stale
    assert (server.header("Connection") == "close") == is_stale


async def test_http_new_connection_is_not_stale():
    """A new connection that brings nothing is an ordinary failure, and so is the next one."""
    async with peer(sends()) as server, session() as http:
        for _ in range(2):
            with pytest.raises(NoResponse) as caught:
                await get(http, server.base)
            assert not caught.value.is_stale


async def test_http_cookies_are_not_kept():
    """A cookie that a peer sets is not sent back to it."""
    async with peer(responds(200, set_cookie="id=1; Path=/")) as server, session() as http:
        # No jar keeps what a bare address sets.
        url = server.base.replace("127.0.0.1", "localhost")
        await get(http, url)
        await get(http, url)

    assert server.header("Cookie") is None


async def test_http_netrc_and_proxy_variables_are_not_read(monkeypatch, tmp_path):
    """Credentials and proxies come from the settings only."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password canary\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async with peer(responds(200)) as server, session() as http:
        await http.request("GET", server.base, headers={}, cap=CAP)

    assert server.header("Authorization") is None
