"""The HTTP client: one tuned session, capped bodies, no redirects, no cookies.

Every error of the HTTP library becomes `NoResponse`, whose text names the host but never the path,
since a path can be a secret.
"""

import base64
import os
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import cache
from typing import Final, Self
from urllib.parse import unquote_to_bytes, urlsplit

import aiohttp
import anyio
from yarl import URL

from poller import __version__
from poller.runtime.http_values import NoResponse, OutboundSettings, Response
from poller.runtime.resolver import system_resolver
from poller.runtime.status_line import (
    HEADER_BYTES_CAP,
    HEADERS_CAP,
    InvalidHeader,
    StatusLineConnector,
    StatusLineResponse,
)

KEEP_ALIVE_SECONDS: Final = 330.0
"""More than the longest default polling interval: a new TLS connection costs nine requests."""
LARGE_BODY_BYTES: Final = 256 * 1024
MAX_LARGE_BODIES: Final = 2
USER_AGENT: Final = f"sutro-poller/{__version__}"


class HttpClient:
    """One session, used as an async context manager."""

    def __init__(self, outbound: OutboundSettings, *, timeout: float, limit: int) -> None:
        self._outbound = outbound
        self._timeout = timeout
        self._limit = limit
        self._large = anyio.Semaphore(MAX_LARGE_BODIES)
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Open the session; connections are opened on demand."""
        connector = StatusLineConnector(
            limit=self._limit,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            resolver=system_resolver(),
            ssl=_tls_context(self._outbound.ca_file),
        )
        self._session = await self._stack.enter_async_context(
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
        self._session._retry_connection = False  # noqa: SLF001
        return self

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
        """Send one request and return at most `cap` bytes of its response. Raises NoResponse."""
        deadline = anyio.current_time() + self._timeout
        status = None
        try:
            target, credentials = _split_credentials(url)
            async with self._session.request(
                method,
                target,
                headers={**credentials, **headers},
                data=body,
                allow_redirects=False,
                proxy=self._outbound.proxy_for(target.scheme, target.host or "", target.port),
            ) as response:
                status = response.status
                content, is_truncated = await self._read(response, cap, deadline)
                return Response(response.status, response.headers, content, is_truncated)
        except InvalidHeader as invalid:
            reason = _explain(invalid.error, url, self._timeout)
            raise NoResponse(f"{reason} (status {invalid.status})", status=invalid.status) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoResponse(_explain(error, url, self._timeout), status=status) from None

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


@cache
def _tls_context(ca_file: str | None) -> ssl.SSLContext | bool:
    """Load the certificates once for all sessions, since that takes 0.1 s.

    Those of the system, or of SSL_CERT_FILE, are loaded by aiohttp.
    """
    return ssl.create_default_context(cafile=ca_file) if ca_file else True


CHECK_PROXY: Final = "; check POLLER_PROXY, or HTTPS_PROXY and HTTP_PROXY"
EXPLANATIONS: Final[tuple[tuple[type[BaseException], str, str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "the name does not resolve", ""),
    (
        aiohttp.ClientConnectorCertificateError,
        "its TLS certificate is not trusted",
        "; check its URL and POLLER_CA_FILE",
    ),
    (aiohttp.ClientSSLError, "the TLS handshake failed", ""),
    (aiohttp.ClientProxyConnectionError, "the proxy cannot be reached", CHECK_PROXY),
    (aiohttp.ClientHttpProxyError, "the proxy rejected the request", CHECK_PROXY),
    (aiohttp.ClientConnectorError, "cannot connect", ""),
    (aiohttp.ServerDisconnectedError, "the connection was closed before a response", ""),
    (aiohttp.ClientPayloadError, "the response was cut off", ""),
    (aiohttp.ClientOSError, "the connection was reset", ""),
    (aiohttp.ClientResponseError, "the response is not HTTP", ""),
)
"""The message for each error of the library and what to do, most specific first.

The error's own text can contain a URL.
"""


def _explain(error: Exception, url: str, timeout: float) -> str:
    host = urlsplit(url).hostname or "?"
    if isinstance(error, TimeoutError):
        is_resolving = system_resolver().is_resolving(host)
        text = "the name does not resolve" if is_resolving else "no complete response"
        return f"{host}: {text} within {timeout:g} s"
    for kind, text, advice in EXPLANATIONS:
        if isinstance(error, kind):
            return f"{host}: {text}{_detail(error)}{advice}"
    return f"{host}: {type(error).__name__}"


def _detail(error: Exception) -> str:
    """Return the message of the operating system or of TLS, which contains no URL."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        text = str(cause.status)
    elif isinstance(cause, ssl.SSLError):
        text = getattr(cause, "verify_message", cause.reason)
    elif isinstance(cause, socket.gaierror):
        text = cause.strerror or ""
    else:
        number = getattr(cause, "errno", None)
        text = os.strerror(number) if number else ""
    return f" ({text})" if text else ""
