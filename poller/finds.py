"""Which jobs are watched though nobody named them: a page showed them, and they were admitted."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from poller.jobs import Job

REMEMBERED: Final = 10_000
"""How many that have ended are known as told, without a look into the store."""


def _admits_nobody(_job: Job) -> bool:
    return False


@dataclass(slots=True)
class Finds:
    """The ids of the jobs that were found and have not ended.

    `newcomers` are those of them whom nobody has taken in yet.
    """

    admits: Callable[[Job], bool] = _admits_nobody
    newcomers: set[str] = field(default_factory=set)
    _job_ids: set[str] = field(default_factory=set)
    _ended: dict[str, None] = field(default_factory=dict)

    def __contains__(self, job_id: str) -> bool:
        """Tell whether a job was found and has not ended."""
        return job_id in self._job_ids

    def __iter__(self) -> Iterator[str]:
        """Go through the ids of all found jobs."""
        return iter(self._job_ids)

    def add(self, job_ids: Iterable[str]) -> None:
        """Take in jobs that were found before."""
        self._job_ids.update(job_ids)

    def welcome(self, jobs: Iterable[Job]) -> None:
        """Take in who is admitted among jobs that are not watched, but not once more."""
        found = [it.job_id for it in jobs if it.job_id not in self._ended and self.admits(it)]
        self.newcomers.update(found)
        self.add(found)

    def keep(self, job: Job | None) -> bool:
        """Take in a job that is named no more, if a page would have had it watched; say so."""
        if job is None or not self.admits(job):
            return False
        self.add([job.job_id])
        return True

    def end(self, job_id: str) -> None:
        """Let go of a job, if it was found, and do not find it again."""
        if job_id not in self._job_ids:
            return
        self._job_ids.discard(job_id)
        self.newcomers.discard(job_id)
        self._ended[job_id] = None
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def forget_ended(self) -> None:
        """Let those that have ended be found again."""
        self._ended.clear()
