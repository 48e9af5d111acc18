"""POST requests of sinks, and what a response means for the delivery."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from poller.core.errors import DeliveryError
from poller.core.retry import RETRY_AFTER_CAP
from poller.runtime.http_headers import retry_after
from poller.runtime.http_values import NoResponse, Response
from poller.sinks import SinkContext

if TYPE_CHECKING:
    from poller.runtime.http_client import HttpClient

JSON: Final = "application/json"
TIMEOUT: Final = 15.0
"""Seconds that a request may take before it counts as failed, where no setting says it."""
MAX_CONNECTIONS: Final = 16
RESPONSE_BYTES_CAP: Final = 4_096
ERROR_FIELDS: Final = ("message", "error", "description", "title")
"""Where services have their words about an error."""
RETRYABLE_STATUSES: Final = frozenset({408, 425, 429})
REJECTED_STATUSES: Final = frozenset({400, 413, 415, 422})
"""The receiver rejects this event, and will probably reject it again."""
SUSPECT_STATUSES: Final = frozenset({401, 403, 404, 405, 407})
"""The endpoint may be wrong or unavailable, for every event."""
REDIRECT_ADVICE: Final = "; redirects are not followed: set the URL to their target"
RETRY_AFTER_STATUSES: Final = frozenset({429, 503})
"""Statuses whose pause is honored: that of Retry-After, or a service's own."""


def http_client(context: SinkContext, timeout: float = TIMEOUT) -> "HttpClient":
    """Return connections of a sink's own, not opened yet, so that no other sink can starve it."""
    from poller.runtime.http_client import HttpClient  # noqa: PLC0415 - heavy, only to send

    return HttpClient(context.outbound, timeout=timeout, limit=MAX_CONNECTIONS)


async def post(
    http: "HttpClient",
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    now: Callable[[], float],
    receipts: Collection[int] = (),
    explain: Callable[[Response], str] = lambda _response: "",
    pause: Callable[[Response], float | None] = lambda _response: None,
) -> None:
    """Send a body; return when the status line of a receipt has arrived. Raises DeliveryError.

    `now` is the clock that dates in Retry-After are compared with. `receipts` are statuses that
    acknowledge the event like a 2xx. `explain` returns the receiver's own words about an error, if
    they may be shown. `pause` returns the seconds to wait where a service has them elsewhere than
    in Retry-After.
    """
    try:
        response = await http.request(
            "POST", url, headers=headers, body=body, cap=RESPONSE_BYTES_CAP
        )
    except NoResponse as error:
        # The status line of a 2xx is an acknowledgement.
        if not is_receipt(error.status, receipts):
            raise DeliveryError(str(error)) from None
        return
    if not is_receipt(response.status, receipts):
        seconds = demanded_pause(response, now(), pause)
        raise _delivery_error(response, seconds, explain(response))


def dump(content: object) -> bytes:
    """Return JSON without white space."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def is_receipt(status: int | None, receipts: Collection[int]) -> bool:
    """Return whether a response status acknowledges the event: a 2xx, or one of `receipts`."""
    return status is not None and (200 <= status < 300 or status in receipts)


def demanded_pause(
    response: Response,
    now: float,
    pause: Callable[[Response], float | None] = lambda _response: None,
) -> float | None:
    """Return the seconds that the receiver demands, at most RETRY_AFTER_CAP."""
    if response.status not in RETRY_AFTER_STATUSES:
        return None
    seconds = pause(response)
    if seconds is not None:
        return min(seconds, RETRY_AFTER_CAP)
    return retry_after(response.headers, cap=RETRY_AFTER_CAP, now=now)


def _delivery_error(response: Response, pause: float | None, words: str) -> DeliveryError:
    """Return the error of a response: most 4xx fault this event, all others the receiver."""
    status = response.status
    is_event_fault = 400 <= status < 500 and status not in RETRYABLE_STATUSES
    advice = REDIRECT_ADVICE if 300 <= status < 400 else ""
    return DeliveryError(
        f"the receiver returned {status}{f': {words}' if words else ''}{advice}",
        retry_after=pause,
        is_sink_fault=not is_event_fault,
        is_gone=status == 410,
        is_suspect=status in SUSPECT_STATUSES,
        is_rejected=status in REJECTED_STATUSES,
    )


def error_words(response: Response) -> str:
    """Return what a service says about an error: fields of JSON, or its text; no page in HTML.

    Nothing of a response that is cut off: half a secret in it could not be found.
    """
    text = "" if response.is_truncated else response.body.decode("utf-8", errors="replace")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return "" if "<" in text else text
    if isinstance(content, str):
        return content
    fields = content if isinstance(content, dict) else {}
    errors, error = fields.get("errors"), fields.get("error")
    if errors and isinstance(errors, list) and all(isinstance(words, str) for words in errors):
        return "; ".join(errors)
    fields = error if isinstance(error, dict) else fields
    return next((fields[name] for name in ERROR_FIELDS if isinstance(fields.get(name), str)), "")


def json_fields(response: Response) -> dict[str, Any] | None:
    """Return the JSON object in a response, {} for other JSON; None if it is none or cut off."""
    try:
        content = json.loads(b"" if response.is_truncated else response.body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else {}
