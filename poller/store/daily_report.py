"""Records the daily report when it is due."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import time
from functools import partial
from typing import Final

import anyio
import structlog

from poller.core.counters import Counters
from poller.core.daily_report import ReportPeriod, daily_report_event
from poller.core.events import EventOrigin
from poller.core.outbox import WriteBatch
from poller.runtime.clock import Clock
from poller.runtime.log_throttle import LogThrottle
from poller.runtime.retrying import log_store_error, until_available
from poller.store import Store
from poller.store.clock_sql import EARLIEST
from poller.store.report import ReportQuery

FIRST_CHECK_DELAY: Final = 60.0
"""Seconds until the jobs file has been read and the jobs were polled."""
CHECK_INTERVAL: Final = 60.0
"""Seconds after which the wall clock is read again: it may have been set."""
REPORT_FLAG: Final = "daily_report"
"""The flag that has the deployment and the date of the last report."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyReporter:
    """Records one report a day, when it is `at` in the zone of the system, or later on that day.

    A day without a daemon after that time has none. `watched` returns the ids of the watched jobs,
    `wake` is called when a report is recorded.
    """

    at: time | None
    store: Store
    origin: EventOrigin
    clock: Clock
    watched: Callable[[], Collection[str]]
    wake: Callable[[], None]
    counters: Counters

    async def run(self) -> None:
        """Record reports until cancelled; does nothing without a time of day."""
        if self.at is None:
            return
        throttle = LogThrottle(self.clock.steady)
        await anyio.sleep(FIRST_CHECK_DELAY)
        while True:
            seconds = await until_available(
                partial(self._check, self.at), on_error=partial(log_store_error, throttle)
            )
            await anyio.sleep(seconds)

    async def _check(self, at: time) -> float:
        """Record the report of today if it is due; return the seconds until the next check."""
        now = self.clock.now()
        period = ReportPeriod.of_today(now, at)
        early = (period.until - now).total_seconds()
        if early > 0.0:
            return min(early, CHECK_INTERVAL)
        if now.timestamp() > EARLIEST:  # else the clock is wrong, and so is the day
            await self._record(period)
        return CHECK_INTERVAL

    async def _record(self, period: ReportPeriod) -> None:
        """Record a report, unless that was done before."""
        mark = f"{self.origin.deployment} {period.day.isoformat()}"
        if (await self.store.get_flags()).get(REPORT_FLAG) == mark:
            return
        ahead = self.clock.wall() - self.clock.steady()  # the wall clock may have been set
        query = ReportQuery(
            since=period.since.timestamp() - ahead,
            until=period.until.timestamp() - ahead,
            watched=self.watched(),
        )
        content = await self.store.report(query)
        event = daily_report_event(content, period, self.origin, self.clock.now())
        await self.store.write(WriteBatch(events=[event], flags={REPORT_FLAG: mark}))
        log.info("report.recorded", date=period.day.isoformat())
        self.counters.events[event.type] += 1
        self.wake()
