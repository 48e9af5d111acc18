"""The meaning of each response of the API's host whose status is not 200."""

import re
from html import unescape
from typing import Any, Final

from poller.core.errors import (
    Intercepted,
    MalformedResponse,
    NotFound,
    PollError,
    RateLimited,
    Rejected,
    ResponseTooLarge,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.parsing import strip_unprintable
from poller.runtime.http_headers import retry_after
from poller.runtime.http_values import Response
from poller.runtime.request_errors import CHECK_PROXY
from poller.sutro.decoding import decode

MESSAGE_CHARS_CAP: Final = 64 * 1024
MAX_PAUSE: Final = 3_600.0
"""The longest pause that the API can demand, in seconds."""
OWN_DEPLOYMENT: Final = "for a deployment of your own, set SUTRO_API_URL"
TITLE: Final = re.compile(rb"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
TITLE_CHARS: Final = 80

STATUSES: Final[tuple[tuple[int, int, type[PollError], str], ...]] = (
    (404, 404, WrongEndpoint, "this server is not the Sutro API ({status}): {check_url}"),
    (407, 407, Intercepted, f"the proxy requires a login ({{status}}){CHECK_PROXY}"),
    (408, 408, Transient, "the API timed out ({status})"),
    (425, 425, Transient, "the API requests a retry ({status})"),
    (501, 501, Rejected, "this server does not support the request ({status}): {check_url}"),
    (0, 299, MalformedResponse, "the response has no content ({status})"),
    (
        300,
        399,
        WrongEndpoint,
        "the server redirects, and redirects are never followed ({status}): {check_url}",
    ),
    (400, 499, Rejected, "the API rejects this request ({status})"),
    (500, 999, Transient, "the API failed ({status})"),
)
"""The meaning of a status, by its first and last number. The first row that fits counts."""


def response_error(response: Response, job_id: str, *, is_public: bool, now: float) -> PollError:
    """Return what a response means whose status is not 200.

    `is_public`: it came from the host that all customers share. `now` is in seconds since 1970.
    """
    status, pause = response.status, retry_after(response.headers, cap=MAX_PAUSE, now=now)
    if status in {401, 403}:
        return _rejection(response, is_public=is_public)
    if status == 429 or (status == 503 and pause is not None):
        return RateLimited(f"the API limits the rate ({status})", retry_after=pause)
    if status == 404 and job_id and _names_job(response, job_id):
        return NotFound("no such job (404)")
    kind, text = next(row[2:] for row in STATUSES if row[0] <= status <= row[1])
    check_url = OWN_DEPLOYMENT if is_public else "check SUTRO_API_URL"
    return kind(text.format(status=status, check_url=check_url))


def _rejection(response: Response, *, is_public: bool) -> PollError:
    """Return what a 401 or 403 means: it is about the key only when the API sent it."""
    if _json_object(response) is None:
        text = f"a proxy or firewall, not the API, rejected the request ({response.status})"
        return Intercepted(text + _title(response.body))
    hint = f"; {OWN_DEPLOYMENT}" if is_public else ""
    message = f"API key rejected ({response.status}): check SUTRO_API_KEY{hint}"
    return Unauthorized(message, status=response.status)


def _json_object(response: Response) -> dict[str, Any] | None:
    try:
        return decode(response, "message", MESSAGE_CHARS_CAP)
    except (MalformedResponse, ResponseTooLarge):
        return None


def _names_job(response: Response, job_id: str) -> bool:
    """Return whether the `message` of a 404 names the job, as the API's own does.

    Web frameworks repeat the path of the request, and so the id, in their own.
    """
    message = (_json_object(response) or {}).get("message")
    pattern = rf"(?<![\w/.-]){re.escape(job_id)}(?![\w/-])"
    return isinstance(message, str) and re.search(pattern, message) is not None


def _title(page: bytes) -> str:
    """Return the title of an HTML page in quotes after a colon, or nothing."""
    found = TITLE.search(page[:MESSAGE_CHARS_CAP])
    title = unescape(found[1].decode(errors="replace")) if found else ""
    text = strip_unprintable(" ".join(title.split()))[:TITLE_CHARS]
    return f': "{text}"' if text else ""
