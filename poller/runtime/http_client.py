"""The HTTP client: tuned sessions, capped bodies, no redirects, no cookies."""

import base64
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import cache, lru_cache
from typing import Any, Final, Self
from urllib.parse import unquote_to_bytes

import aiohttp
import anyio
from aiohttp import AddrInfoType
from yarl import URL

from poller import __version__
from poller.runtime.http_values import NoResponse, OutboundSettings, Response
from poller.runtime.request_errors import explain
from poller.runtime.resolver import system_resolver
from poller.runtime.status_line import (
    HEADER_BYTES_CAP,
    HEADERS_CAP,
    InvalidHeader,
    StatusLineConnector,
    StatusLineResponse,
    UnansweredReuse,
)

MAX_IDLE_SECONDS: Final = 230.0
"""Many networks forget a connection that was idle for 4 minutes, without closing it."""
KEEP_ALIVE_OPTIONS: Final = (
    ("TCP_KEEPIDLE", 60),
    ("TCP_KEEPALIVE", 60),  # the same on macOS
    ("TCP_KEEPINTVL", 15),
    ("TCP_KEEPCNT", 4),
)
"""Idle connections are probed: networks then remember them, and one that is dead is closed."""
LARGE_BODY_BYTES: Final = 256 * 1024
MAX_LARGE_BODIES: Final = 2
KEPT_URLS: Final = 1_024
"""URLs that are not split again, and whose parts the library has encoded already."""
USER_AGENT: Final = f"sutro-poller/{__version__}"


class HttpClient:
    """Sends requests. It is used as an async context manager."""

    def __init__(self, outbound: OutboundSettings, *, timeout: float, limit: int) -> None:
        self._outbound = outbound
        self._timeout = timeout
        self._limit = limit
        self._large = anyio.Semaphore(MAX_LARGE_BODIES)
        self._stack = AsyncExitStack()
        self._reusing: aiohttp.ClientSession
        self._connecting: aiohttp.ClientSession
        self._is_suspect = False

    async def __aenter__(self) -> Self:
        """Open the sessions; connections are opened on demand."""
        self._reusing = await self._open(keepalive_timeout=MAX_IDLE_SECONDS)
        self._connecting = await self._open(force_close=True)
        return self

    async def _open(self, **pooling: Any) -> aiohttp.ClientSession:
        connector = StatusLineConnector(
            **pooling,
            limit=self._limit,
            resolver=system_resolver(),
            socket_factory=_open_socket,
            ssl=_tls_context(self._outbound.ca_file),
        )
        session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                auto_decompress=False,
                response_class=StatusLineResponse,
                max_line_size=HEADER_BYTES_CAP,
                max_field_size=HEADER_BYTES_CAP,
                max_headers=HEADERS_CAP,
                trust_env=False,
            )
        )
        # The library would repeat a request when its connection breaks: twice the requests in an
        # outage, none of which the rate limiter counts. There is no public option against that.
        session._retry_connection = False  # noqa: SLF001
        return session

    async def __aexit__(self, *_error: object) -> None:
        """Close every connection."""
        await self._stack.aclose()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        cap: int,
    ) -> Response:
        """Send one request and return at most `cap` bytes of its response. Raises NoResponse.

        Once a connection was found stale, others may be: each request then gets a connection of its
        own, until there is a response.
        """
        session = self._connecting if self._is_suspect else self._reusing
        deadline = anyio.current_time() + self._timeout
        status = None
        try:
            target, credentials = _split_credentials(url)
            async with session.request(
                method,
                target,
                headers={**credentials, **headers},
                data=body,
                allow_redirects=False,
                proxy=self._outbound.proxy_for(target.scheme, target.host or "", target.port),
            ) as response:
                self._is_suspect, status = False, response.status
                content, is_truncated = await self._read(response, cap, deadline)
                return Response(response.status, response.headers, content, is_truncated)
        except InvalidHeader as invalid:
            reason = self._explain(invalid.error, url)
            raise NoResponse(f"{reason} (status {invalid.status})", status=invalid.status) from None
        except UnansweredReuse as unanswered:
            self._is_suspect = True
            reason = self._explain(unanswered.error, url)
            raise NoResponse(reason, is_stale=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoResponse(self._explain(error, url), status=status) from None

    def _explain(self, error: Exception, url: str) -> str:
        return explain(error, url, timeout=self._timeout, url_name=self._outbound.url_name)

    async def _read(
        self, response: aiohttp.ClientResponse, cap: int, deadline: float
    ) -> tuple[bytes, bool]:
        """Read a body; at most two large ones are in memory at the same time."""
        # Joined once: a buffer that grows in small steps fragments the memory.
        chunks: list[bytes] = []
        size = await _read_up_to(chunks, 0, response, min(cap, LARGE_BODY_BYTES))
        if LARGE_BODY_BYTES < size <= cap:
            # The timeout of the session does not cover this wait.
            with anyio.fail_after(deadline - anyio.current_time()):
                async with self._large:
                    size = await _read_up_to(chunks, size, response, cap)
                    return _join(chunks, size, cap), size > cap
        return _join(chunks, size, cap), size > cap


@lru_cache(maxsize=KEPT_URLS)
def _split_credentials(url: str) -> tuple[URL, Mapping[str, str]]:
    """Return a URL that is sent byte by byte, and the header of its user and password.

    A query is a part of the path here: the library would drop a `?` that nothing follows.
    """
    scheme, _, rest = url.partition("#")[0].partition("://")
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    path = rest.removeprefix(authority)
    user, at, host = authority.rpartition("@")
    target = URL.build(
        scheme=scheme.lower(),
        authority=host,
        path=path if path.startswith("/") else f"/{path}",
        encoded=True,
    )
    if not at:
        return target, {}
    name, _, password = user.partition(":")
    credentials = base64.b64encode(unquote_to_bytes(f"{name}:{password}")).decode()
    return target, {"Authorization": f"Basic {credentials}"}


async def _read_up_to(
    chunks: list[bytes], size: int, response: aiohttp.ClientResponse, enough: int
) -> int:
    """Read until the body ends or is larger than `enough`; return its size so far."""
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > enough:
            break
    return size


def _join(chunks: list[bytes], size: int, cap: int) -> bytes:
    """Return the first `cap` bytes of the chunks."""
    if size > cap:
        chunks[-1] = chunks[-1][: len(chunks[-1]) - (size - cap)]
    return b"".join(chunks)


def _open_socket(address: AddrInfoType) -> socket.socket:
    """Return a socket for an address; idle, the system probes its connection."""
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, number in KEEP_ALIVE_OPTIONS:
        if option := getattr(socket, name, None):
            opened.setsockopt(socket.IPPROTO_TCP, option, number)
    return opened


@cache
def _tls_context(ca_file: str | None) -> ssl.SSLContext | bool:
    """Load the certificates once for all sessions, since that takes 0.1 s.

    Those of the system, or of SSL_CERT_FILE, are loaded by aiohttp.
    """
    return ssl.create_default_context(cafile=ca_file) if ca_file else True
