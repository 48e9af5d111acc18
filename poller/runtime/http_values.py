"""The values of HTTP requests, for modules that send none: the HTTP client is heavy to import."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from poller.core.errors import PollerError

HOST_SCHEMES: Final = frozenset({"http", "https", "smtp", "smtps", "smtp+starttls"})


class NoResponse(PollerError):
    """No complete response: DNS, TLS, a reset, a timeout, or bytes that are not HTTP.

    `status` is set if the status line of the response arrived. `is_stale`: a reused
    connection returned nothing, which says more about that connection than about the server.
    """

    def __init__(self, message: str, *, status: int | None = None, is_stale: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.is_stale = is_stale


@dataclass(frozen=True, slots=True)
class OutboundSettings:
    """The certificates and proxies of requests; `proxy_for` takes a scheme, a host and a port.

    `url_name` is what messages call the setting of the URL.
    """

    ca_file: str | None = None
    proxy_for: Callable[[str, str, int | None], str | None] = lambda _scheme, _host, _port: None
    url_name: str = "its URL"


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response. `is_truncated`: the body is over the cap; `body` is its beginning."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_truncated: bool


def redact_url(url: str) -> str:
    """Return a URL without its secret parts: scheme and host, then dots.

    Other schemes than those of HTTP and SMTP may have a token in the place of the host.
    """
    parts = urlsplit(url)
    host = f"{parts.netloc.rpartition('@')[2]}/" if parts.scheme in HOST_SCHEMES else ""
    return f"{parts.scheme}://{host}..."
