"""Messages for the errors of the HTTP library: the host, but never the path, can be in one."""

import os
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from poller.runtime.resolver import system_resolver

CHECK_PROXY: Final = "; check POLLER_PROXY, or HTTPS_PROXY and HTTP_PROXY"
CHECK_URL: Final = "; check {url_name}"
EXPLANATIONS: Final[tuple[tuple[type[BaseException], str, str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "the name does not resolve", CHECK_URL),
    (
        aiohttp.ClientConnectorCertificateError,
        "its TLS certificate is not trusted",
        f"{CHECK_URL} and POLLER_CA_FILE",
    ),
    (aiohttp.ClientSSLError, "the TLS handshake failed", CHECK_URL),
    (aiohttp.ClientProxyConnectionError, "the proxy cannot be reached", CHECK_PROXY),
    (aiohttp.ClientHttpProxyError, "the proxy rejected the request", CHECK_PROXY),
    (aiohttp.ClientConnectorError, "cannot connect", CHECK_URL),
    (aiohttp.ServerDisconnectedError, "the connection was closed before a response", ""),
    (aiohttp.ClientPayloadError, "the response was cut off", ""),
    (aiohttp.ClientOSError, "the connection was reset", ""),
    (aiohttp.ClientResponseError, "the response is not HTTP", ""),
)
"""The message for each error of the library and what to do, most specific first.

The error's own text can contain a URL.
"""
NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})
"""What OpenSSL calls a response that is not TLS, in its versions."""


def explain(error: Exception, url: str, *, timeout: float, url_name: str) -> str:
    """Return the message for an error of the library."""
    host = urlsplit(url).hostname or "?"
    if isinstance(error, TimeoutError):
        if system_resolver().is_resolving(host):
            advice = CHECK_URL.format(url_name=url_name)
            return f"{host}: the name does not resolve within {timeout:g} s{advice}"
        return f"{host}: no complete response within {timeout:g} s"
    for kind, text, advice in EXPLANATIONS:
        if isinstance(error, kind):
            is_proxy = (
                isinstance(error, aiohttp.ClientConnectorError) and error.host.lower() != host
            )
            check = CHECK_PROXY if is_proxy else advice.format(url_name=url_name)
            return f"{_peer(error, host)}: {text}{_detail(error)}{check}"
    return f"{host}: {type(error).__name__}"


def _peer(error: Exception, host: str) -> str:
    """Return the host that a request was meant for, or host and port that failed to connect."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return host
    place = f"[{error.host}]" if ":" in error.host else error.host
    return place if isinstance(error, aiohttp.ClientConnectorDNSError) else f"{place}:{error.port}"


def _detail(error: Exception) -> str:
    """Return the message of the operating system or of TLS, which contains no URL."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        text = str(cause.status)
    elif isinstance(cause, ssl.SSLError):
        text = getattr(cause, "verify_message", cause.reason)
        if text in NO_TLS:
            text += ": does it speak http?"
    elif isinstance(cause, socket.gaierror):
        text = cause.strerror or ""
    else:
        number = getattr(cause, "errno", None)
        text = os.strerror(number) if number else ""
    return f" ({text})" if text else ""
