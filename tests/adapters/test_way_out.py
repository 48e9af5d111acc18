"""How requests leave the machine: TLS, names, proxies."""

import ssl
from datetime import timedelta
from functools import partial
from traceback import format_exception

import anyio
import pytest
import trustme
from aiohttp.resolver import AsyncResolver

from poller.runtime import http as http_module
from poller.runtime.http import NoResponse, OutboundSettings
from tests.support.http_peers import BREAKING, answers, peer, proxy, stalls
from tests.support.http_requests import NOW, failure, get, session

# TLS.

CA = trustme.CA()


def certificate(host: str, **options) -> ssl.SSLContext:
    """Make a server's side of TLS with a certificate of CA for a host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert(host, **options).configure_cert(context)
    return context


@pytest.fixture
def trusting(tmp_path) -> OutboundSettings:
    """Give a way out that trusts CA alone."""
    path = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(path)
    return OutboundSettings(ca_file=str(path))


async def test_ca_file_is_trusted(trusting):
    """A certificate of the CA in the file is good."""
    async with (
        peer(answers(200, b"{}"), tls=certificate("127.0.0.1")) as it,
        session(trusting) as http,
    ):
        answer = await get(http, it.base)

    assert answer.body == b"{}"


@pytest.mark.parametrize(
    ("host", "options", "words"),
    [
        ("other.example", {}, "IP address mismatch, certificate is not valid for '127.0.0.1'."),
        (
            "127.0.0.1",
            {"not_before": NOW - timedelta(days=9), "not_after": NOW - timedelta(days=1)},
            "certificate has expired",
        ),
    ],
)
async def test_bad_certificate(trusting, host: str, options: dict, words: str):
    """An expired certificate and that of another host are refused, with the reason."""
    async with peer(answers(200), tls=certificate(host, **options)) as it:
        text = await failure(it.base, trusting)

    what = f"its TLS certificate is not trusted ({words})"
    assert text == f"127.0.0.1: {what}; check its URL and POLLER_CA_FILE"
    assert it.requests == []


async def test_unknown_ca():
    """A certificate of a CA that nobody knows is refused, and nothing is sent."""
    async with peer(answers(200), tls=certificate("127.0.0.1")) as it:
        text = await failure(it.base)

    assert "is not trusted (unable to get local issuer certificate)" in text
    assert it.requests == []


async def test_no_tls_at_all():
    """A peer that answers a TLS hello with plain HTTP gets nothing, and is named for it."""
    async with peer(answers(400), is_rude=True) as it:
        text = await failure(it.base.replace("http:", "https:"))

    assert text.startswith("127.0.0.1: the TLS handshake failed")


@pytest.mark.virtual(limit=60.0)
async def test_stalled_handshake():
    """A handshake that stalls is given up at the deadline of the request."""
    async with peer(stalls(), is_rude=True) as it:
        text = await failure(it.base.replace("http:", "https:"), limit=30.0)

    assert text == "127.0.0.1: no complete response within 30 s"
    assert anyio.current_time() <= 31.0


# Names and ways out.


async def test_nobody_listens():
    """A refused connection says so, in the system's words without an address."""
    text = await failure("http://127.0.0.1:1/secret")

    assert text == ("127.0.0.1: cannot connect (Connection refused)")


@pytest.mark.parametrize(
    ("reply_to", "words"),
    [
        # NXDOMAIN: the query's number and question, with the flags of an answer of no such name.
        (
            lambda query: query[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + query[12:],
            "the name does not resolve",
        ),
        (lambda _query: b"", "no complete response within 0.3 s"),
    ],
    ids=["no such name", "silence"],
)
async def test_name_that_does_not_resolve(monkeypatch, reply_to, words: str):
    """A name that nobody knows, and a name server that is silent, are no answer."""
    async with await anyio.create_udp_socket(local_host="127.0.0.1") as server:
        port = server.extra(anyio.abc.SocketAttribute.local_port)
        resolver = partial(AsyncResolver, nameservers=["127.0.0.1"], udp_port=port)
        monkeypatch.setattr(http_module, "AsyncResolver", resolver)

        async def serve_names() -> None:
            async for query, address in server:
                if response := reply_to(query):
                    await server.sendto(response, *address)

        async with anyio.create_task_group() as group:
            group.start_soon(serve_names)
            text = await failure("https://nonexistent.invalid/secret", limit=0.3)
            group.cancel_scope.cancel()

    assert text == f"nonexistent.invalid: {words}"


async def test_plain_proxy():
    """A plain request goes to the proxy that was named for its URL, credentials in a header."""
    async with proxy() as it:
        outbound = it.base.replace("//", "//me:canary@")
        async with session(OutboundSettings(proxy_for=lambda _scheme, _host: outbound)) as http:
            answer = await get(http, "http://api.example/jobs/1")

    assert answer.body == b"http://api.example/jobs/1"
    assert it.lines == ["GET http://api.example/jobs/1 HTTP/1.1"]
    assert it.header("Proxy-Authorization") == "Basic bWU6Y2FuYXJ5"


async def test_tunnel(trusting):
    """A TLS request goes through a tunnel of the proxy, which sees the host and nothing else."""
    async with (
        proxy() as it,
        peer(answers(200, b"{}"), tls=certificate("127.0.0.1")) as there,
        session(OutboundSettings(trusting.ca_file, lambda _scheme, _host: it.base)) as http,
    ):
        answer = await get(http, f"{there.base}/jobs/1")

    assert answer.body == b"{}"
    assert it.lines == [f"CONNECT {there.base.removeprefix('https://')} HTTP/1.1"]
    assert b"canary" not in b"".join(it.requests)
    assert there.lines == ["GET /jobs/1 HTTP/1.1"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "http://a.example",
            "the proxy cannot be reached (Connection refused); check POLLER_PROXY",
        ),
        (
            "https://a.example",
            "the proxy rejected the request (407); check POLLER_PROXY",
        ),
    ],
)
async def test_proxy_in_trouble(url: str, words: str):
    """What a proxy does wrong is told as the proxy's, without its credentials."""
    async with peer(answers(407)) as it:
        port = "1" if url.startswith("http:") else it.base.rpartition(":")[2]
        text = await failure(
            url,
            OutboundSettings(proxy_for=lambda _scheme, _host: f"http://me:canary@127.0.0.1:{port}"),
        )

    assert words in text
    assert "canary" not in text


async def test_request_that_cannot_be_made():
    """What the library refuses to send is told by its kind, since its text can hold anything."""
    async with peer(answers(200)) as it, session() as http:
        with pytest.raises(NoResponse) as caught:
            await http.request("GET", it.base, headers={"X": "canary\r\n"}, cap=1)

    assert str(caught.value) == "127.0.0.1: ValueError"


@pytest.mark.parametrize("name", ["closed", "reset in the body", "bad chunk", "garbage"])
async def test_traceback_of_a_failure_holds_no_secret(name: str):
    """Not even a failure's traceback holds the key, the path or the query."""
    path = "/canary?canary=1"
    async with peer(BREAKING[name]) as it, session() as http:
        with pytest.raises(NoResponse) as caught:
            await get(http, it.base + path)

    assert "canary" not in "".join(format_exception(caught.value)) + repr(caught.value)
