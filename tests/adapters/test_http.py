"""HTTP as the daemon speaks it: hostile peers, and good manners."""

import gzip
import tracemalloc

import anyio
import pytest

from poller.runtime.http import LARGE_BODY_BYTES
from tests.support.http_peers import (
    BREAKING,
    CHUNKED,
    OK,
    STALLING,
    Talk,
    answers,
    drips,
    floods,
    peer,
    read_request,
    reply,
    says,
    stalls,
)
from tests.support.http_requests import CAP, fails, failure, get, session

# Hostile peers.


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize("name", sorted(set(BREAKING) - {"switching protocols"}))
async def test_answer_that_breaks_off(name: str):
    """An answer that breaks off or is no HTTP ends the request at once."""
    async with peer(BREAKING[name]) as it:
        text = await failure(f"{it.base}/secret?q=secret")

    assert "secret" not in text
    assert anyio.current_time() < 1.0


@pytest.mark.virtual(limit=60.0)
async def test_peer_that_talks_first():
    """A peer that closes the connection without reading anything is no answer."""
    async with peer(says(), is_rude=True) as it:
        text = await failure(it.base)

    assert text.startswith("127.0.0.1: the connection was ")


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize("name", sorted(STALLING))
async def test_answer_that_never_ends(name: str):
    """A peer that drips or falls silent is left at the deadline of the whole request."""
    async with peer(STALLING[name]) as it:
        text = await failure(f"{it.base}/secret", limit=30.0)

    assert text == "127.0.0.1: no complete response within 30 s"
    assert 30.0 <= anyio.current_time() <= 31.0


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize(
    "talk",
    [
        floods(CHUNKED, b"10000\r\n" + b" " * 65_536 + b"\r\n"),
        floods(OK + b"\r\n", b" " * 65_536),
        floods(OK + b"Content-Length: 8000000000\r\n\r\n", b" " * 65_536),
    ],
)
async def test_endless_body(talk: Talk):
    """A body is read up to the cap and no further, whatever length it claims to have."""
    async with peer(talk) as it, session() as http:
        answer = await get(http, it.base)

    assert (answer.is_truncated, len(answer.body)) == (True, CAP)


@pytest.mark.parametrize("cap", [10, LARGE_BODY_BYTES, LARGE_BODY_BYTES + 100_000])
@pytest.mark.parametrize("excess", [-1, 0, 1])
async def test_cap_is_exact(cap: int, excess: int):
    """A body that fits is whole; one byte more and it is cut."""
    async with peer(answers(200, b"x" * (cap + excess))) as it, session() as http:
        answer = await get(http, it.base, cap=cap)

    assert (len(answer.body), answer.is_truncated) == (cap + min(excess, 0), excess > 0)


@pytest.mark.virtual(limit=60.0)
async def test_two_large_bodies_at_once():
    """Of many large bodies only two are held beyond 256 KiB at a time."""

    async def large(stream) -> None:
        await stream.send(OK + b"Content-Length: 3000001\r\n\r\n")
        for _ in range(30):
            await stream.send(b" " * 100_000)
        await stalls()(stream)

    async with peer(large) as it, session() as http, anyio.create_task_group() as group:
        tracemalloc.start()
        for _ in range(10):
            group.start_soon(fails, http, it.base, [])
        await anyio.sleep(5.0)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert held < 20_000_000


@pytest.mark.virtual(limit=120.0)
async def test_large_body_that_waits_for_others_ends_at_its_own_deadline():
    """A large body behind two dripped ones is given up at its deadline, not at theirs."""
    ended: list[float] = []
    large = OK + b"Content-Length: 3000000\r\n\r\n" + b" " * (LARGE_BODY_BYTES + 100_000)

    async def late(stream) -> None:
        await anyio.sleep(20.0)
        await stream.send(large)
        await stalls()(stream)

    async with (
        peer(late, drips(large, b" ")) as it,
        session() as http,
        anyio.create_task_group() as group,
    ):
        group.start_soon(fails, http, it.base, ended)
        await anyio.sleep(15.0)
        group.start_soon(fails, http, it.base, [])
        group.start_soon(fails, http, it.base, [])

    assert ended == [pytest.approx(30.0, abs=1.1)]


@pytest.mark.virtual(limit=60.0)
async def test_hostile_peers_delay_nobody():
    """While fifteen connections drip, other requests are answered without any delay."""
    async with (
        peer(drips(OK + b"Content-Length: 9000000\r\n\r\n" + b" " * 300_000, b" ")) as hostile,
        peer(answers(200, b"{}")) as good,
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


async def test_bomb_stays_packed():
    """A compressed body is never unpacked, so that it costs its own size and no more."""
    bomb = gzip.compress(b" " * 50_000_000)

    async with peer(answers(200, bomb, content_encoding="gzip")) as it, session() as http:
        answer = await get(http, it.base)

    assert answer.body == bomb
    assert it.header("Accept-Encoding") == "identity"


# Manners.


async def test_connection_is_kept():
    """The second request to a host goes over the connection of the first."""

    async def talk(stream) -> None:
        while True:
            await stream.send(reply(200, b"{}", connection="keep-alive"))
            await read_request(stream)

    async with peer(talk, says()) as it, session() as http:
        seen = [(await get(http, it.base)).body for _ in range(3)]

    assert seen == [b"{}"] * 3


async def test_cookies_are_not_kept():
    """A cookie that a peer sets is not sent back to it."""
    async with peer(answers(200, set_cookie="id=1; Path=/")) as it, session() as http:
        # No jar keeps what a bare address sets.
        url = it.base.replace("127.0.0.1", "localhost")
        await get(http, url)
        await get(http, url)

    assert it.header("Cookie") is None


async def test_netrc_and_proxy_variables_are_not_read(monkeypatch, tmp_path):
    """The way out of the machine is what the settings say, whatever the surroundings hold."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password canary\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async with peer(answers(200)) as it, session() as http:
        await http.request("GET", it.base, headers={}, cap=CAP)

    assert it.header("Authorization") is None
