"""Times in HTTP headers: dates, and the pause that a server demands."""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

from poller.core.jobs import aware

SECONDS: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
"""RFC 9110 has whole seconds; some servers send a fraction."""


def retry_after(headers: Mapping[str, str], *, cap: float, now: float) -> float | None:
    """Return Retry-After (RFC 9110 10.2.3) in seconds, at most `cap`; None if it is invalid.

    A date is relative to the Date of the response, since the two clocks need not agree; without
    one it is relative to `now`, our own clock.
    """
    text = headers.get("Retry-After", "").strip()
    if SECONDS.fullmatch(text):
        return min(float(text), cap)
    until, sent = http_date(text), http_date(headers.get("Date", ""))
    if until is None:
        return None
    pause = until.timestamp() - (sent.timestamp() if sent else now)
    return min(pause, cap) if pause >= 0.0 else None


@lru_cache(maxsize=8)
def http_date(text: str) -> datetime | None:
    """Return a date of RFC 9110 5.6.7 in any of its three forms; None if it is invalid."""
    try:
        return aware(parsedate_to_datetime(text))  # the form of asctime names no zone
    except (ValueError, OverflowError):
        return None
