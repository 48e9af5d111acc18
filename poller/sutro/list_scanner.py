"""Reads the account's list for discovery: its top often, and what is below it by a `ListSurvey`."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Final

from poller.core.errors import PollError, Transient
from poller.sutro.list_page import PageRead, PageRequest
from poller.sutro.list_planner import ListPlanner, is_list_error
from poller.sutro.list_survey import ListSurvey, ListWalk

TURN_SECONDS: Final = 20.0
"""How long a survey goes on before the top of the list is read again."""


class ListScanner:
    """Scans the list. `fetch` waits for a turn and reads a page; it raises PollError."""

    def __init__(
        self,
        planner: ListPlanner,
        fetch: Callable[[PageRequest], Awaitable[PageRead]],
        now: Callable[[], float],
    ) -> None:
        self._planner = planner
        self._fetch = fetch
        self._now = now
        self.survey = ListSurvey(now)

    @property
    def scanned_at(self) -> float:
        """When the top of the list was last known; -inf if what is below it is to be read."""
        return -math.inf if self.survey.is_due else self.survey.scanned_at

    async def scan(
        self, since: datetime, clock_skew: Callable[[], float]
    ) -> AsyncIterator[PageRead]:
        """Read the list down to jobs that are known or, for a survey that is due, to its horizon.

        Jobs created before `since` do not count. A survey goes on where an earlier scan, or an
        error, has left it, after a look at the top. Raises PollError; the rest of the list then
        stays unknown. At a closed gate the first page is a probe.
        """
        survey = self.survey
        walk = survey.unfinished
        if walk and not (walk.request and self._planner.has(walk.request.page)):
            walk = survey.unfinished = None
        if (walk and walk.pages) or not survey.is_due:
            async for read in self._scan_top(since, clock_skew):
                yield read
        if survey.is_due:
            walk = survey.unfinished = walk or survey.new_survey(since, clock_skew())
            async for read in self._read_down(walk, self._now() + TURN_SECONDS):
                yield read

    async def _scan_top(
        self, since: datetime, clock_skew: Callable[[], float]
    ) -> AsyncIterator[PageRead]:
        """Read the list from the top down to jobs that are known: few of them at first."""
        if peek := self._planner.peek():
            scan = self.survey.new_scan(since, clock_skew())
            read = await self._fetch(peek)
            yield read
            if scan.take(read.page, read.requested_at):
                self.survey.finish(scan)
                return
        scan = self.survey.new_scan(since, clock_skew())
        async for read in self._read_down(scan, math.inf):
            yield read

    async def _read_down(self, walk: ListWalk, until: float) -> AsyncIterator[PageRead]:
        """Read the next pages of a walk: at least one, and none after a time."""
        while True:
            walk.request = walk.request or self._planner.first()
            try:
                read = await self._fetch(walk.request)
            except PollError as error:
                if walk.pages and is_list_error(error):  # the list itself works
                    raise Transient(f"a page below the first: {error}") from None
                raise
            yield read
            is_last = walk.take(read.page, read.requested_at)
            if not is_last and not self._planner.has(walk.request.page):
                return  # the list was forgotten meanwhile: the rest of it is still unknown
            walk.request = None if is_last else self._planner.after(walk.request)
            if walk.request is None:
                self.survey.finish(walk)
            if walk.request is None or self._now() >= until:
                return
