"""Which jobs are watched: those of the settings, of a file that may change, and added ones."""

from collections.abc import Awaitable, Callable, Collection, Container, Iterable
from math import inf
from pathlib import Path
from typing import Final

import anyio
import structlog
from anyio.to_thread import run_sync

from poller.core.errors import StoreUnavailable
from poller.core.jobs import is_job_id
from poller.polling.discovery import DiscoveredJobs
from poller.runtime.log_throttle import LogThrottle
from poller.store import Store

FILE_POLL_INTERVAL: Final = 2.0

log = structlog.get_logger()


class Watchlist:
    """The watched ids, in order and without repetition.

    `is_read` once the file, if there is to be one, has been there.
    """

    def __init__(self, job_ids: Iterable[str], jobs_file: Path | None = None) -> None:
        self._job_ids = dict.fromkeys(job_ids)
        self._file = jobs_file
        self._stamp: tuple[int, ...] | None = None
        self._from_file: dict[str, None] = {}
        self._added: dict[str, None] = {}
        self.discovered = DiscoveredJobs()
        self._file_error = ""
        self.is_read = jobs_file is None
        self._reload_requested = anyio.Event()
        self._disk = anyio.CapacityLimiter(1)

    async def run(self, watch: Callable[[Collection[str]], Awaitable[None]]) -> None:
        """Call `watch` with all ids now and whenever they change."""
        known: tuple[str, ...] | None = None
        every = FILE_POLL_INTERVAL if self._file else inf
        while True:
            asked = self._reload_requested = anyio.Event()
            if self._file:
                await run_sync(
                    self._read_file, self._file, limiter=self._disk, abandon_on_cancel=True
                )
            if self.job_ids != known:
                known = self.job_ids
                await watch(known)
            with anyio.move_on_after(every):
                await asked.wait()

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The ids that are named now, by the environment, the file or the API."""
        return tuple(self._job_ids | self._from_file | self._added)

    @property
    def watched_ids(self) -> set[str]:
        """The ids that are named, and those of the discovered jobs."""
        return {*self.job_ids, *self.discovered}

    @property
    def added(self) -> tuple[str, ...]:
        """The ids that were added while a daemon ran."""
        return tuple(self._added)

    def add(self, job_ids: Iterable[str]) -> None:
        """Watch these jobs too."""
        self._added |= dict.fromkeys(job_ids)
        self._reload_requested.set()

    def remove(self, job_ids: Iterable[str]) -> None:
        """Take back what was added; what is named elsewhere stays."""
        for job_id in job_ids:
            self._added.pop(job_id, None)
        self._reload_requested.set()

    def sources(self, job_id: str) -> list[str]:
        """Return why a job is watched: the names of its sources, empty when it is not."""
        sources: dict[str, Container[str]] = {
            "environment": self._job_ids,
            "file": self._from_file,
            "api": self._added,
            "discovery": self.discovered,
        }
        return [source for source, job_ids in sources.items() if job_id in job_ids]

    def reload(self) -> None:
        """Read the file again now, changed or not."""
        self._stamp = None
        self._reload_requested.set()

    def _read_file(self, path: Path) -> None:
        """Read the file when it changed. While it cannot be read, its last ids stay watched."""
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp != self._stamp:
                self._take(path, path.read_text(encoding="utf-8-sig", errors="replace"))
                self._stamp, self.is_read = stamp, True
            trouble = ""
        except OSError as error:
            trouble = error.strerror or type(error).__name__
        if trouble and trouble != self._file_error:
            log.warning("jobs_file.unreadable", file=str(path), error=trouble)
        self._file_error = trouble

    def _take(self, path: Path, text: str) -> None:
        good, bad = parse_ids(text)
        self._from_file = dict.fromkeys(good)
        for number in bad:
            log.warning("jobs_file.bad_line", file=str(path), line=number, error=JOB_ID_RULE)


JOB_ID_RULE: Final = "a job id has 1 to 128 of A-Z a-z 0-9 . _ -"


def parse_ids(text: str) -> tuple[tuple[str, ...], list[int]]:
    """Read one id a line, `#` begins a comment; give the ids and the numbers of the bad lines."""
    good: list[str] = []
    bad: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        job_id = line.partition("#")[0].strip()
        if is_job_id(job_id):
            good.append(job_id)
        elif job_id:
            bad.append(number)
    return tuple(good), bad


STORE_RETRY: Final = 5.0


class PersistentAdditions:
    """Add to a watch list and take away from it; all of it survives a restart."""

    def __init__(self, store: Store, watchlist: Watchlist) -> None:
        self._store = store
        self._watchlist = watchlist
        self._database_id = store.database_id
        self._changing = anyio.Lock(fast_acquire=True)

    async def load(self, repeats: LogThrottle) -> None:
        """Take in what was added before; a store that cannot be read is waited for."""
        while True:
            try:
                self._watchlist.add(await self._store.added_ids())
            except StoreUnavailable as error:
                if occurrences := repeats.should_log(str(error)):
                    log.error("store.unavailable", error=str(error), occurrences=occurrences)
                await anyio.sleep(STORE_RETRY)
            else:
                return

    async def add(self, job_ids: Collection[str]) -> None:
        """Watch these jobs too. Raises StoreUnavailable: then they may be watched or not."""
        async with self._changing:
            await self._store.add_ids(job_ids)
            self._watchlist.add(job_ids)

    async def remove(self, job_ids: Iterable[str]) -> None:
        """Watch these jobs no more, unless others name them. Raises StoreUnavailable."""
        job_ids = list(job_ids)
        async with self._changing:
            await self._store.remove_ids(job_ids)
            self._watchlist.remove(job_ids)

    async def sync_with_store(self) -> None:
        """Let go of what the store has let go of; tell it all again when it was replaced.

        Raises StoreUnavailable.
        """
        async with self._changing:
            kept = set(await self._store.added_ids())  # this may be what opens the new one
            if self._store.database_id != self._database_id:
                await self._store.add_ids(self._watchlist.added)
                self._database_id = self._store.database_id
                return
            self._watchlist.remove([it for it in self._watchlist.added if it not in kept])
