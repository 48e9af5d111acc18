"""The daily report: the period that it covers, and its event."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Self

from poller.core.events import DaemonEventType, Event, EventOrigin, daemon_event
from poller.core.jobs import format_rfc3339


@dataclass(frozen=True, slots=True)
class ReportPeriod:
    """The time between the reports of two days: 24 hours, or 23 or 25 when clocks change."""

    day: date
    since: datetime
    until: datetime

    @classmethod
    def of_today(cls, now: datetime, at: time, zone: tzinfo | None = None) -> Self:
        """Return the period of the report that is due today at `at`, by the calendar of a zone.

        It ends when the report is due. `zone` is that of the system if it is None.
        """
        day = now.astimezone(zone).date()
        since, until = (_moment(each, at, zone) for each in (day - timedelta(days=1), day))
        return cls(day, since, until)


def daily_report_event(
    content: Mapping[str, Any], period: ReportPeriod, origin: EventOrigin, observed_at: datetime
) -> Event:
    """Return the event of a report; its id depends on the deployment and the day alone."""
    day = period.day.isoformat()
    span = {"since": format_rfc3339(period.since), "until": format_rfc3339(period.until)}
    return daemon_event(
        DaemonEventType.DAILY_REPORT,
        origin,
        observed_at,
        instance=f"{origin.deployment} {day}",
        occurrence=0,
        detail={"date": day, **span, **content},
    )


def _moment(day: date, at: time, zone: tzinfo | None) -> datetime:
    """Return when a day has a time: an hour later if it does not have it, the first of two."""
    local = datetime.combine(day, at, zone)
    # Not `astimezone`, which takes a time that the day does not have for an earlier one.
    return datetime.fromtimestamp(local.timestamp(), UTC)
