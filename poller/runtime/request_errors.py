"""Messages for the errors of the HTTP library: the host, but never the path, can be in one."""

import os
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from poller.runtime.resolver import system_resolver

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


def explain(error: Exception, url: str, timeout: float) -> str:
    """Return the message for an error of the library."""
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
