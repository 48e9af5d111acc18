"""The watched jobs by source: settings, a file that may change, the HTTP API, and discovery."""

from collections.abc import Awaitable, Callable, Collection, Container, Iterable
from functools import partial
from math import inf
from pathlib import Path
from typing import Final

import anyio

from poller.polling.discovery import DiscoveredJobs
from poller.polling.jobs_file import NO_SUCH_FILE, JobsFile
from poller.runtime.log_throttle import LogThrottle
from poller.runtime.retrying import log_store_error, until_available
from poller.runtime.wakeup import Wakeup
from poller.store import Store

FILE_POLL_INTERVAL: Final = 2.0

JobIds = Collection[str]
Watch = Callable[[JobIds, JobIds, JobIds], Awaitable[None]]
"""Receives the ids that are new in the list, those that it has no more, and those added again."""


class Watchlist:
    """The ids of the watched jobs, in order and without repetition, and why they are watched.

    The watcher fills `discovered`.
    """

    def __init__(self, job_ids: Iterable[str], jobs_file: Path | None = None) -> None:
        self._job_ids = dict.fromkeys(job_ids)
        self._file = JobsFile(jobs_file) if jobs_file else None
        self._added: dict[str, None] = {}
        self._added_again: set[str] = set()
        self._pending: dict[str, None] = {}
        self._all: tuple[str, ...] | None = None
        self.discovered = DiscoveredJobs()
        self._changed = Wakeup()
        self._reloaded = Wakeup()

    async def run(self, watch: Watch) -> None:
        """Call `watch` with all named ids, then with each change, and with ids added again.

        Those are the ids that were added at run time since the last call, watched before or not.
        """
        async with anyio.create_task_group() as group:
            if self._file:
                since = self._reloaded.count
                await self._refresh(self._file)
                group.start_soon(self._follow, self._file, since, name="jobs file")
            await self._pass_on(watch)

    async def _pass_on(self, watch: Watch) -> None:
        self._pending = dict.fromkeys(self.job_ids)
        while True:
            since = self._changed.count
            await watch(*self._take_changes())
            await self._changed.wait(inf, since=since)

    def _take_changes(self) -> tuple[JobIds, JobIds, JobIds]:
        changed, self._pending = self._pending, {}
        again, self._added_again = self._added_again, set()
        named = [job_id for job_id in changed if self._is_named(job_id)]
        return named, changed.keys() - named, again

    async def _follow(self, file: JobsFile, since: int) -> None:
        while True:
            await self._reloaded.wait(FILE_POLL_INTERVAL, since=since)
            since = self._reloaded.count
            await self._refresh(file)

    async def _refresh(self, file: JobsFile) -> None:
        before = file.job_ids
        await file.refresh()
        if file.job_ids is not before:
            changed = [job_id for job_id in before if job_id not in file.job_ids]
            changed += [job_id for job_id in file.job_ids if job_id not in before]
            others = self._job_ids | self._added
            self._notify(job_id for job_id in changed if job_id not in others)

    def _notify(self, changed: Iterable[str]) -> None:
        self._all = None
        self._pending |= dict.fromkeys(changed)
        if self._pending:
            self._changed.notify()

    def _is_named(self, job_id: str) -> bool:
        return job_id in self._job_ids or job_id in self._from_file or job_id in self._added

    @property
    def is_read(self) -> bool:
        """Return whether all ids of the file, if one is set, are known."""
        return self._file is None or self._file.is_read

    @property
    def is_file_failing(self) -> bool:
        """Return whether the file, if one is set, is there and cannot be read."""
        return self._file is not None and self._file.error not in {"", NO_SUCH_FILE}

    @property
    def _from_file(self) -> dict[str, None]:
        return self._file.job_ids if self._file else {}

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The ids that are named by the settings, the file or the HTTP API."""
        if self._all is None:
            self._all = tuple(self._job_ids | self._from_file | self._added)
        return self._all

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
        self._notify(added)

    def remove(self, job_ids: Iterable[str]) -> None:
        """Remove ids that were added; ids that are named elsewhere stay."""
        removed = [job_id for job_id in job_ids if self._added.pop(job_id, "") is None]
        self._notify(job_id for job_id in removed if not self._is_named(job_id))

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
        if self._file:
            self._file.forget()
        self._reloaded.notify()


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
