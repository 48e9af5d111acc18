"""When the jobs of a wait may be expected to end, by what a daemon on this machine has recorded."""

from concurrent.futures import Future
from pathlib import Path

from poller.cli.expectation import short_text
from poller.config import Config
from poller.core.duration_history import DurationHistory
from poller.core.errors import StoreError
from poller.core.jobs import Job
from poller.runtime.clock import Clock
from poller.runtime.threads import call_in_thread
from poller.settings.sources import MEMORY
from poller.store.admin import StoreAdmin
from poller.store.past_jobs import read_history


class Forecast:
    """What is expected of jobs: nothing until the database is read, or if there is none."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._history: Future[DurationHistory] = call_in_thread(self._read, "history")

    def of(self, job: Job) -> str:
        """Return when a job may be expected to end, by the local time; empty if it is unknown."""
        if not self._history.done() or self._history.exception():
            return ""
        now = self._clock.now()
        expected = self._history.result().expected_end(job, now)
        return short_text(expected, now.astimezone()) if expected else ""

    def _read(self) -> DurationHistory:
        """Read the database. A wait needs none, so one that cannot be read is as if empty."""
        path = self._config.settings.store
        try:
            if path != MEMORY:
                return read_history(StoreAdmin(Path(path)), self._config.origin.deployment)
        except (StoreError, OSError):
            pass
        return DurationHistory()
