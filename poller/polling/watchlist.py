"""The watched jobs by source: settings, a file that may change, the HTTP API, and discovery."""

from collections.abc import Awaitable, Callable, Collection, Container, Iterable
from functools import partial
from math import inf
from pathlib import Path
from typing import Final

import anyio
import structlog
from anyio.to_thread import run_sync

from poller.core.jobs import JOB_ID_RULE, is_job_id
from poller.polling.discovery import DiscoveredJobs
from poller.runtime.log_throttle import LogThrottle
from poller.runtime.retrying import log_store_error, until_available
from poller.runtime.wakeup import Wakeup
from poller.store import Store

FILE_POLL_INTERVAL: Final = 2.0

log = structlog.get_logger()


class Watchlist:
    """The ids of the watched jobs, in order and without repetition, and why they are watched.

    `is_read` once the file, if one is set, has been read. The watcher fills `discovered`.
    """

    def __init__(self, job_ids: Iterable[str], jobs_file: Path | None = None) -> None:
        self._job_ids = dict.fromkeys(job_ids)
        self._file = jobs_file
        self._file_version: tuple[int, ...] | None = None
        self._file_error = ""
        self._from_file: dict[str, None] = {}
        self._added: dict[str, None] = {}
        self._added_again: set[str] = set()
        self.discovered = DiscoveredJobs()
        self.is_read = jobs_file is None
        self._changed = Wakeup()
        self._disk = anyio.CapacityLimiter(1)

    async def run(
        self, watch: Callable[[Collection[str], Container[str]], Awaitable[None]]
    ) -> None:
        """Call `watch` with all named ids, now and whenever they change or some are added again.

        Its second argument are the ids that were added since the last call, watched before or not.
        """
        known: tuple[str, ...] | None = None
        interval = FILE_POLL_INTERVAL if self._file else inf
        while True:
            since = self._changed.count
            if self._file:
                await run_sync(
                    self._read_file, self._file, limiter=self._disk, abandon_on_cancel=True
                )
            if self.job_ids != known or self._added_again:
                known, added, self._added_again = self.job_ids, self._added_again, set()
                await watch(known, added)
            await self._changed.wait(interval, since=since)

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The ids that are named by the settings, the file or the HTTP API."""
        return tuple(self._job_ids | self._from_file | self._added)

    @property
    def watched_ids(self) -> set[str]:
        """The ids that are named, and those of the discovered jobs."""
        return {*self.job_ids, *self.discovered}

    @property
    def added(self) -> tuple[str, ...]:
        """The ids that were added at run time."""
        return tuple(self._added)

    def add(self, job_ids: Iterable[str]) -> None:
        """Watch these jobs too."""
        added = dict.fromkeys(job_ids)
        self._added |= added
        self._added_again |= added.keys()
        self._changed.notify()

    def remove(self, job_ids: Iterable[str]) -> None:
        """Remove ids that were added; ids that are named elsewhere stay."""
        for job_id in job_ids:
            self._added.pop(job_id, None)
        self._changed.notify()

    def sources(self, job_id: str) -> list[str]:
        """Return why a job is watched: the names of its sources, none when it is not."""
        sources: dict[str, Container[str]] = {
            "environment": self._job_ids,
            "file": self._from_file,
            "api": self._added,
            "discovery": self.discovered,
        }
        return [source for source, job_ids in sources.items() if job_id in job_ids]

    def reload(self) -> None:
        """Read the file again now, changed or not."""
        self._file_version = None
        self._changed.notify()

    def _read_file(self, path: Path) -> None:
        """Read the file if it has changed. While it is unreadable, its last ids stay watched."""
        try:
            status = path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version != self._file_version:
                self._load(path, path.read_text(encoding="utf-8-sig", errors="replace"))
                self._file_version, self.is_read = version, True
            reason = ""
        except OSError as error:
            reason = error.strerror or type(error).__name__
        if reason and reason != self._file_error:
            log.warning("jobs_file.unreadable", file=str(path), error=reason)
        self._file_error = reason

    def _load(self, path: Path, text: str) -> None:
        job_ids, bad_lines = parse_ids(text)
        self._from_file = dict.fromkeys(job_ids)
        for number in bad_lines:
            log.warning("jobs_file.bad_line", file=str(path), line=number, error=JOB_ID_RULE)


def parse_ids(text: str) -> tuple[tuple[str, ...], list[int]]:
    """Return the ids of a text, one a line, `#` for comments, and the numbers of its bad lines."""
    job_ids: list[str] = []
    bad_lines: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        job_id = line.partition("#")[0].strip()
        if is_job_id(job_id):
            job_ids.append(job_id)
        elif job_id:
            bad_lines.append(number)
    return tuple(job_ids), bad_lines


class PersistentAdditions:
    """Adds jobs to a watch list, and removes them, so that the changes survive a restart."""

    def __init__(self, store: Store, watchlist: Watchlist) -> None:
        self._store = store
        self._watchlist = watchlist
        self._database_id = store.database_id
        self._changing = anyio.Lock(fast_acquire=True)

    async def load(self, throttle: LogThrottle) -> None:
        """Load recorded additions; wait for a store that is unavailable."""
        self._watchlist.add(
            await until_available(
                self._store.added_ids, on_error=partial(log_store_error, throttle)
            )
        )

    async def add(self, job_ids: Collection[str]) -> None:
        """Watch these jobs too. Raises StoreUnavailable: then they may be watched or not."""
        async with self._changing:
            await self._store.add_ids(job_ids)
            self._watchlist.add(job_ids)

    async def remove(self, job_ids: Iterable[str]) -> None:
        """Remove these jobs; they stay watched if named elsewhere. Raises StoreUnavailable."""
        job_ids = list(job_ids)
        async with self._changing:
            await self._store.remove_ids(job_ids)
            self._watchlist.remove(job_ids)

    async def sync_with_store(self) -> None:
        """Remove ids that the store has pruned; record all again when it was replaced.

        Raises StoreUnavailable.
        """
        async with self._changing:
            kept = set(await self._store.added_ids())  # this may be what opens the new one
            if self._store.database_id != self._database_id:
                await self._store.add_ids(self._watchlist.added)
                self._database_id = self._store.database_id
                return
            pruned = [job_id for job_id in self._watchlist.added if job_id not in kept]
            self._watchlist.remove(pruned)
