"""When a job may be expected to end, for people and in JSON."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from poller.core.duration_history import DurationHistory
from poller.core.durations import ExpectedEnd
from poller.core.job_status import TERMINAL_STATUSES
from poller.core.jobs import format_rfc3339
from poller.core.state import Phase
from poller.runtime.address import host_and_port
from poller.settings.daemon import Settings
from poller.store.admin import StoreAdmin
from poller.store.filters import Row
from poller.store.past_jobs import read_history

ENDED: Final = TERMINAL_STATUSES | {Phase.MISSING.name}
SOON: Final = timedelta(days=6)
"""Within this time the day of the week says which day is meant."""


class Expectations:
    """What is expected of jobs, by those in a database, which is read when one has not ended."""

    def __init__(
        self,
        admin: StoreAdmin,
        deployment: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._admin = admin
        self._deployment = deployment
        self._now = now
        self._history: DurationHistory | None = None

    def of(self, row: Row) -> ExpectedEnd | None:
        """Return what is expected of the job in a row with the fields of its object."""
        if row["state"] in ENDED or "status" not in row:
            return None
        if self._history is None:
            self._history = read_history(self._admin, self._deployment)
        return self._history.expected_end_of(row, self._now())


def expectations(settings: Settings, admin: StoreAdmin) -> Expectations:
    """Return what is expected of the jobs that a daemon with these settings watches."""
    return Expectations(admin, host_and_port(settings.api_url))


def short_text(expected: ExpectedEnd, now: datetime) -> str:
    """Return the times in the zone of `now`, such as 12:40, 95 % by 12:55."""
    return f"{_short(expected.p50, now)}, 95 % by {_short(expected.p95, now)}"


def full_text(expected: ExpectedEnd) -> str:
    """Return the times in full, and where they come from."""
    late = whole_text(expected.p95)
    basis = f"{expected.samples} ended jobs {expected.basis.label}"
    return f"{whole_text(expected.p50)}, 95 % by {late}, from {basis}"


def whole_text(moment: datetime) -> str:
    """Return a time as RFC 3339, without parts of a second."""
    return format_rfc3339(moment.replace(microsecond=0))


def _short(moment: datetime, now: datetime) -> str:
    local = moment.astimezone(now.tzinfo)
    if local.date() == now.date():
        return f"{local:%H:%M}"
    return f"{local:%a %H:%M}" if local - now < SOON else f"{local:%d %b %H:%M}"
