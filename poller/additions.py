"""Which jobs were added while the daemon runs, here and in the store."""

from collections.abc import Collection, Iterable
from typing import Final

import anyio
import structlog

from poller.errors import StoreUnavailable
from poller.repeats import Repeats
from poller.store import Store
from poller.watchlist import Watchlist

STORE_RETRY: Final = 5.0

log = structlog.get_logger()


class Additions:
    """Add to a watch list and take away from it; all of it survives a restart."""

    def __init__(self, store: Store, watchlist: Watchlist) -> None:
        self._store = store
        self._watchlist = watchlist
        self._instance = store.instance
        self._changing = anyio.Lock(fast_acquire=True)

    async def load(self, repeats: Repeats) -> None:
        """Take in what was added before; a store that cannot be read is waited for."""
        while True:
            try:
                self._watchlist.add(await self._store.added())
            except StoreUnavailable as error:
                if times := repeats.count(str(error)):
                    log.error("store.unavailable", error=str(error), times=times)
                await anyio.sleep(STORE_RETRY)
            else:
                return

    async def add(self, job_ids: Collection[str]) -> None:
        """Watch these jobs too. Raises StoreUnavailable: then they may be watched or not."""
        async with self._changing:
            await self._store.add(job_ids)
            self._watchlist.add(job_ids)

    async def remove(self, job_ids: Iterable[str]) -> None:
        """Watch these jobs no more, unless others name them. Raises StoreUnavailable."""
        job_ids = list(job_ids)
        async with self._changing:
            await self._store.remove(job_ids)
            self._watchlist.remove(job_ids)

    async def reconcile(self) -> None:
        """Let go of what the store has let go of; tell it all again when it was replaced.

        Raises StoreUnavailable.
        """
        async with self._changing:
            kept = set(await self._store.added())  # this may be what opens the new one
            if self._store.instance != self._instance:
                await self._store.add(self._watchlist.added)
                self._instance = self._store.instance
                return
            self._watchlist.remove([it for it in self._watchlist.added if it not in kept])
