"""HTTP as this daemon speaks it: one tuned session, bodies under a cap, no redirects, no cookies.

Foreign errors end here: whatever keeps an answer from arriving whole is `NoResponse`, whose text
names the host and never the path, since a path can be a secret.
"""

import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
import anyio
from aiohttp.resolver import AsyncResolver
from yarl import URL

from poller import __version__
from poller.core.errors import PollerError

KEEP_ALIVE_SECONDS: Final = 330.0
"""Longer than the longest usual poll interval: a new TLS connection costs nine requests."""
LARGE_BODY_BYTES: Final = 256 * 1024
MAX_LARGE_BODIES: Final = 2
USER_AGENT: Final = f"sutro-poller/{__version__}"


class NoResponse(PollerError):
    """No whole answer came: DNS, TLS, a reset, a timeout, or bytes that are not HTTP.

    `status` is that of an answer whose header came and whose body did not.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class OutboundSettings:
    """How requests leave this machine: `proxy_for` gives a scheme's and host's proxy, or None."""

    ca_file: str | None = None
    proxy_for: Callable[[str, str], str | None] = lambda _scheme, _host: None


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. `is_cut`: the body went on past the cap, and `body` is its beginning."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_truncated: bool


class HttpClient:
    """One session. Use it as an async context manager."""

    def __init__(self, outbound: OutboundSettings, *, timeout: float, limit: int) -> None:
        self._egress = outbound
        self._timeout = timeout
        self._limit = limit
        self._large = anyio.Semaphore(MAX_LARGE_BODIES)
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Open the session; connections are made when they are needed."""
        resolver = AsyncResolver()
        self._stack.push_async_callback(resolver.close)
        connector = aiohttp.TCPConnector(
            limit=self._limit,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            resolver=resolver,
            ssl=_tls_context(self._egress.ca_file),
        )
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
            )
        )
        # The library would send a request again, unasked, when its connection breaks: twice the
        # requests in an outage, and none of them in any budget. It has no public switch for that.
        self._session._retry_connection = False  # noqa: SLF001
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
        """Send one request and read at most `cap` bytes of its answer. Raises NoAnswer."""
        deadline = anyio.current_time() + self._timeout
        status = None
        try:
            target = URL(url)
            async with self._session.request(
                method,
                target,
                headers=headers,
                data=body,
                allow_redirects=False,
                proxy=self._egress.proxy_for(target.scheme, target.host or ""),
            ) as response:
                status = response.status
                content, is_cut = await self._read(response, cap, deadline)
                return Response(response.status, response.headers, content, is_cut)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoResponse(_explain(error, url, self._timeout), status=status) from None

    async def _read(
        self, response: aiohttp.ClientResponse, cap: int, deadline: float
    ) -> tuple[bytes, bool]:
        """Read a body. Only two large ones are held at once, however many peers send them."""
        # Joined once: what grows a little at a time leaves holes of many times its size.
        chunks: list[bytes] = []
        size = await _read_up_to(chunks, 0, response, min(cap, LARGE_BODY_BYTES))
        if LARGE_BODY_BYTES < size <= cap:
            # The session's own timeout is blind to a wait for others.
            with anyio.fail_after(deadline - anyio.current_time()):
                async with self._large:
                    size = await _read_up_to(chunks, size, response, cap)
                    return _join_url(chunks, size, cap), size > cap
        return _join_url(chunks, size, cap), size > cap


async def _read_up_to(
    chunks: list[bytes], size: int, response: aiohttp.ClientResponse, enough: int
) -> int:
    """Read until the body ends or is larger than `enough`; give its size by then."""
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > enough:
            break
    return size


def _join_url(chunks: list[bytes], size: int, cap: int) -> bytes:
    """Put at most `cap` bytes together."""
    if size > cap:
        chunks[-1] = chunks[-1][: len(chunks[-1]) - (size - cap)]
    return b"".join(chunks)


@cache
def _tls_context(ca_file: str | None) -> ssl.SSLContext | bool:
    """Load the certificates once for all sessions: that takes a tenth of a second.

    The system's own, or those of SSL_CERT_FILE, have been loaded by aiohttp already.
    """
    return ssl.create_default_context(cafile=ca_file) if ca_file else True


def retry_after(headers: Mapping[str, str], *, cap: float) -> float | None:
    """Read Retry-After (RFC 9110 10.2.3) as seconds, at most `cap`; None for junk.

    A date counts from the answer's own Date, since the two clocks need not agree.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:12]), cap)
    until, sent = http_date(text), http_date(headers.get("Date", ""))
    if until is None or sent is None or until < sent:
        return None
    return min((until - sent).total_seconds(), cap)


@lru_cache(maxsize=8)
def http_date(text: str) -> datetime | None:
    """Read a date of RFC 9110 5.6.7; None for junk. Many answers come within one second."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else None


def redact_url(url: str) -> str:
    """Show a URL without what can be a secret in it: scheme and host, then dots."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/..."


PROXY: Final = "; check POLLER_PROXY, or HTTPS_PROXY and its kin"
EXPLANATIONS: Final[tuple[tuple[type[BaseException], str, str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "the name does not resolve", ""),
    (
        aiohttp.ClientConnectorCertificateError,
        "its TLS certificate is not trusted",
        "; check its URL and POLLER_CA_FILE",
    ),
    (aiohttp.ClientSSLError, "the TLS handshake failed", ""),
    (aiohttp.ClientProxyConnectionError, "the proxy cannot be reached", PROXY),
    (aiohttp.ClientHttpProxyError, "the proxy refused", PROXY),
    (aiohttp.ClientConnectorError, "cannot connect", ""),
    (aiohttp.ServerDisconnectedError, "the connection was closed without an answer", ""),
    (aiohttp.ClientPayloadError, "the answer broke off", ""),
    (aiohttp.ClientOSError, "the connection was reset", ""),
    (aiohttp.ClientResponseError, "the answer is not HTTP", ""),
)
"""What is said of each foreign error, most special first, and what to do about it.

Its own text can carry a URL.
"""


def _explain(error: Exception, url: str, timeout: float) -> str:
    host = urlsplit(url).hostname or "?"
    if isinstance(error, TimeoutError):
        return f"{host}: no whole answer within {timeout:g} s"
    for kind, text, advice in EXPLANATIONS:
        if isinstance(error, kind):
            return f"{host}: {text}{_detail(error)}{advice}"
    return f"{host}: {type(error).__name__}"


def _detail(error: Exception) -> str:
    """Add the system's own words for what went wrong, which carry no address."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        text = str(cause.status)
    elif isinstance(cause, ssl.SSLError):
        text = getattr(cause, "verify_message", cause.reason)
    else:
        number = getattr(cause, "errno", None)
        text = os.strerror(number) if number else ""
    return f" ({text})" if text else ""
