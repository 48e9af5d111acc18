"""Outgoing requests: TLS, names, proxies."""

import base64
import socket
import ssl
from datetime import timedelta
from traceback import format_exception

import anyio
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from poller.core.errors import Intercepted
from poller.runtime import http_client as http_module
from poller.runtime.http_client import HttpClient, _open_socket, _split_credentials
from poller.runtime.http_values import NoResponse, OutboundSettings
from poller.sutro.client import SutroClient
from tests.support.client_polls import JOB, KEY
from tests.support.client_polls import NOW as POLL_TIME
from tests.support.config_builders import load_with
from tests.support.http_peers import BREAKING, peer, proxy, responds, stalls
from tests.support.http_requests import CAP, NOW, failure, get, session

# TLS.

CA = trustme.CA()


def certificate(host: str, **options) -> ssl.SSLContext:
    """Return the TLS context of a server with a certificate of CA for a host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert(host, **options).configure_cert(context)
    return context


@pytest.fixture
def trusting(tmp_path) -> OutboundSettings:
    """Return outbound settings that trust CA only."""
    path = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(path)
    return OutboundSettings(ca_file=str(path))


async def test_tls_ca_file_is_trusted(trusting):
    """A certificate of the CA in the file is accepted."""
    async with (
        peer(responds(200, b"{}"), tls=certificate("127.0.0.1")) as server,
        session(trusting) as http,
    ):
        response = await get(http, server.base)

    assert response.body == b"{}"


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
async def test_tls_bad_certificate(trusting, host: str, options: dict, words: str):
    """An expired certificate and one of another host are rejected, with the reason."""
    async with peer(responds(200), tls=certificate(host, **options)) as server:
        text = await failure(server.base, trusting)

    error = f"its TLS certificate is not trusted ({words})"
    place = server.base.removeprefix("https://")
    assert text == f"{place}: {error}; check its URL and POLLER_CA_FILE"
    assert server.requests == []


async def test_tls_unknown_ca():
    """A certificate of an unknown CA is rejected, and nothing is sent."""
    async with peer(responds(200), tls=certificate("127.0.0.1")) as server:
        text = await failure(server.base)

    assert "is not trusted (unable to get local issuer certificate)" in text
    assert server.requests == []


async def test_tls_server_without_tls():
    """A peer that responds to TLS with plain HTTP is an error that asks for that."""
    async with peer(responds(400), skips_request=True) as server:
        text = await failure(server.base.replace("http:", "https:"))

    error = "the TLS handshake failed (WRONG_VERSION_NUMBER: does it speak http?)"
    assert text == f"{server.base.removeprefix('http://')}: {error}; check its URL"


@pytest.mark.virtual(limit=60.0)
async def test_tls_handshake_that_stalls():
    """A TLS handshake that stalls ends at the deadline of the request."""
    async with peer(stalls(), skips_request=True) as server:
        text = await failure(server.base.replace("http:", "https:"), limit=30.0)

    assert text == "127.0.0.1: no complete response within 30 s"
    assert anyio.current_time() <= 31.0


# URLs.

EXACT = (
    "/u/me%40example.com/hook?sp=%2Ftriggers%2Fmanual%2Frun&sig=Ab_c-D%2Fe%2Bf%3D",
    "/a/../b/./c//d",
    "/%7Euser/%2f%3A|{x}?",
    "/?a=b?c&d;e=+%20%zz",
)


@pytest.mark.parametrize("target", EXACT)
async def test_url_is_sent_as_it_is(target: str):
    """Path and query go out byte by byte, without their fragment, and so they do by a proxy."""
    async with peer(responds(200)) as server, proxy() as gateway:
        by_proxy = OutboundSettings(proxy_for=lambda *_: gateway.base)
        async with session() as http, session(by_proxy) as proxied:
            await get(http, f"{server.base}{target}#fragment")
            await get(proxied, f"http://api.example:80{target}")

    assert server.lines == [f"GET {target} HTTP/1.1"]
    assert gateway.lines == [f"GET http://api.example{target} HTTP/1.1"]


async def test_url_is_sent_as_it_is_through_a_tunnel(trusting):
    """So they do through the tunnel of a proxy."""
    tls = certificate("127.0.0.1")
    async with proxy() as gateway, peer(responds(200), tls=tls) as server:
        outbound = OutboundSettings(trusting.ca_file, lambda *_: gateway.base)
        async with session(outbound) as http:
            await get(http, server.base + EXACT[0])

    assert server.lines == [f"GET {EXACT[0]} HTTP/1.1"]


@pytest.mark.parametrize(("end", "target"), [("", "/"), ("?x=%2F", "/?x=%2F"), ("?", "/?")])
async def test_url_without_a_path(end: str, target: str):
    """Without a path the root is requested."""
    async with peer(responds(200)) as server, session() as http:
        await get(http, server.base + end)

    assert server.lines == [f"GET {target} HTTP/1.1"]


@given(st.text([chr(code) for code in range(0x21, 0x7F) if chr(code) != "#"]))
def test_url_of_any_characters_is_exact(target: str):
    """For any path and query, the library is given exactly those."""
    url, _ = _split_credentials(f"http://a.example:81/{target}")

    assert (url.raw_path_qs, str(url)) == (f"/{target}", f"http://a.example:81/{target}")


@pytest.mark.parametrize(
    ("user", "credentials"),
    [("me:p%40ss", "me:p@ss"), ("me", "me:"), (":token", ":token"), ("%C3%A9:%E2%82%AC", "é:€")],
)
async def test_url_user_is_sent_as_a_header(user: str, credentials: str):
    """User and password of a URL are decoded and sent as UTF-8, and in the header alone."""
    async with peer(responds(200)) as server, session() as http:
        await http.request("GET", server.base.replace("//", f"//{user}@"), headers={}, cap=CAP)

    value = base64.b64encode(credentials.encode()).decode()
    assert server.header("Authorization") == f"Basic {value}"
    assert server.lines == ["GET / HTTP/1.1"]
    assert server.header("Host") == server.base.removeprefix("http://")


# Names and proxies.


async def test_connection_refused():
    """A refused connection has the message of the system, with the port and the setting."""
    text = await failure("http://127.0.0.1:1/secret", OutboundSettings(url_name="SUTRO_API_URL"))

    assert text == "127.0.0.1:1: cannot connect (Connection refused); check SUTRO_API_URL"


async def test_connections_are_probed_while_idle(monkeypatch):
    """The system probes an idle connection before a network forgets it, and closes a dead one."""
    opened = []

    def recorded(address) -> socket.socket:
        opened.append(_open_socket(address))
        return opened[-1]

    monkeypatch.setattr(http_module, "_open_socket", recorded)
    async with peer(responds(200, connection="keep-alive")) as server, session() as http:
        await get(http, server.base)
        (used,) = opened

        assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


async def test_proxy_of_a_plain_request():
    """A plain request goes to the proxy for its URL, with credentials in a header."""
    async with proxy() as server:
        outbound = server.base.replace("//", "//me:canary@")
        async with session(OutboundSettings(proxy_for=lambda *_target: outbound)) as http:
            response = await get(http, "http://api.example/jobs/1")

    assert response.body == b"http://api.example/jobs/1"
    assert server.lines == ["GET http://api.example/jobs/1 HTTP/1.1"]
    assert server.header("Proxy-Authorization") == "Basic bWU6Y2FuYXJ5"


async def test_proxy_of_the_environment_without_a_scheme():
    """A proxy that is set as host:port, as curl takes it, gets the request over http."""
    async with proxy() as server:
        config = load_with(HTTP_PROXY=server.base.removeprefix("http://"))
        async with session(config.outbound) as http:
            response = await get(http, "http://api.example/jobs/1")

    assert response.body == b"http://api.example/jobs/1"


async def test_proxy_of_a_tls_request(trusting):
    """A TLS request goes through a tunnel of the proxy, which sees only the host."""
    async with (
        proxy() as server,
        peer(responds(200, b"{}"), tls=certificate("127.0.0.1")) as target,
        session(OutboundSettings(trusting.ca_file, lambda *_target: server.base)) as http,
    ):
        response = await get(http, f"{target.base}/jobs/1")

    assert response.body == b"{}"
    assert server.lines == [f"CONNECT {target.base.removeprefix('https://')} HTTP/1.1"]
    assert b"canary" not in b"".join(server.requests)
    assert target.lines == ["GET /jobs/1 HTTP/1.1"]


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
async def test_proxy_that_fails(url: str, words: str):
    """An error of the proxy is reported as the proxy's, without its credentials."""
    async with peer(responds(407)) as server:
        port = "1" if url.startswith("http:") else server.base.rpartition(":")[2]
        text = await failure(
            url,
            OutboundSettings(proxy_for=lambda *_target: f"http://me:canary@127.0.0.1:{port}"),
        )

    assert words in text
    assert "canary" not in text


async def test_request_that_the_library_rejects():
    """A request that cannot be sent is reported by the type of the error only."""
    async with peer(responds(200)) as server, session() as http:
        with pytest.raises(NoResponse) as caught:
            await http.request("GET", server.base, headers={"X": "canary\r\n"}, cap=1)

    assert str(caught.value) == "127.0.0.1: ValueError"


@pytest.mark.parametrize("name", ["closed", "reset in the body", "bad chunk", "garbage"])
async def test_traceback_of_a_failure_contains_no_secret(name: str):
    """Not even the traceback of a failure contains the key, the path or the query."""
    path = "/canary?canary=1"
    async with peer(BREAKING[name]) as server, session() as http:
        with pytest.raises(NoResponse) as caught:
            await get(http, server.base + path)

    assert "canary" not in "".join(format_exception(caught.value)) + repr(caught.value)


@pytest.mark.parametrize("status", [401, 403, 407])
async def test_proxy_that_rejects_a_plain_request_is_not_the_api(status: int):
    """A proxy between this host and a plain HTTP API rejects in a page: not the key's fault."""
    page = responds(status, b"<title>%d Unauthorized</title>" % status)
    async with peer(page) as it:
        outbound = OutboundSettings(proxy_for=lambda *_target: it.base)
        async with HttpClient(outbound, timeout=30.0, limit=1) as http:
            api = SutroClient(
                http, base="http://api.test", key=lambda: SecretStr(KEY), now=lambda: POLL_TIME
            )
            with pytest.raises(Intercepted, match=r"Unauthorized|POLLER_PROXY"):
                await api.get_job(JOB)

    assert it.lines == [
        f"GET http://api.test{prefix}/jobs/{JOB} HTTP/1.1" for prefix in ("/v1", "")
    ]
