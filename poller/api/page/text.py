"""Values as pages show them: times, durations, numbers, and the tone of a state."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlencode

from poller.core.formatting import format_cost, format_duration
from poller.core.jobs import format_rfc3339

SHORT_CHARS: Final = 120
"""Characters of a text in a list; the page of a job has all of them."""

TONES: Final = {
    word: tone
    for tone, words in {
        "good": "SUCCEEDED delivered enabled job.succeeded job.settled job.found"
        " poller.auth_recovered",
        "bad": "FAILED MISSING dead disabled job.failed job.missing poller.auth_failed"
        " poller.sink_disabled",
        "warn": "CANCELLED CANCELLING UNKNOWN job.cancelled job.unrecognised pending"
        " job.overdue job.cost_over_estimate budget.crossed",
        "live": "RUNNING STARTING job.started",
    }.items()
    for word in words.split()
}
"""The tone of a word, which the style sheet colors; any other is plain."""


@dataclass(frozen=True, slots=True)
class ShownTime:
    """A time for machines, for people, and as its distance from now."""

    iso: str
    utc: str
    distance: str


def moment(value: datetime | str | float | None, now: datetime) -> ShownTime | None:
    """Return a time, which is a datetime, RFC 3339, or in seconds since 1970; None without one."""
    if value is None:
        return None
    if isinstance(value, float):
        value = datetime.fromtimestamp(value, UTC)
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    seconds = (now - at).total_seconds()
    distance = f"{format_duration(int(seconds))} ago" if seconds >= 1.0 else "just now"
    if seconds <= -1.0:
        distance = f"in {format_duration(int(-seconds))}"
    utc = f"{at.astimezone(UTC).isoformat(' ', 'seconds')[:19]} UTC"
    return ShownTime(format_rfc3339(at), utc, distance)


def duration(seconds: float | None) -> str:
    """Return a duration, or nothing."""
    return "" if seconds is None else format_duration(seconds)


def cost(dollars: float | None) -> str:
    """Return a cost, or nothing."""
    return "" if dollars is None else format_cost(dollars)


def count(number: int | None) -> str:
    """Return a number with separators, or nothing."""
    return "" if number is None else f"{number:,}"


def clip(text: str | None, limit: int = SHORT_CHARS) -> str:
    """Return a text in one line, and not all of it if it is long."""
    line = " ".join((text or "").split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def tone(word: str) -> str:
    """Return the tone of a word."""
    return TONES.get(word, "plain")


def job_path(job_id: str) -> str:
    """Return the path of the page of a job."""
    return f"/jobs/{quote(job_id, safe='')}"


def link(path: str, **parameters: str | None) -> str:
    """Return a path with those parameters that have a value."""
    given: Mapping[str, str] = {name: value for name, value in parameters.items() if value}
    return f"{path}?{urlencode(given)}" if given else path
