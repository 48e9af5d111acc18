"""The statuses of a job: the words of the API, their aliases and their order."""

from enum import StrEnum
from typing import Final, Self


class JobStatus(StrEnum):
    """The statuses of the API, each with its rank in the life of a job.

    A job never returns to a lower rank; the highest rank is that of the terminal statuses.
    """

    rank: int

    UNKNOWN = "UNKNOWN", 0
    SUBMITTED = "SUBMITTED", 1
    PENDING = "PENDING", 1
    QUEUED = "QUEUED", 2
    STARTING = "STARTING", 3
    RUNNING = "RUNNING", 4
    CANCELLING = "CANCELLING", 5
    SUCCEEDED = "SUCCEEDED", 6
    FAILED = "FAILED", 6
    CANCELLED = "CANCELLED", 6

    def __new__(cls, value: str, rank: int = 0) -> Self:
        """Return a status with its rank."""
        status = str.__new__(cls, value)
        status._value_, status.rank = value, rank
        return status

    @property
    def is_terminal(self) -> bool:
        """Return whether a job with this status has ended. CANCELLING is not terminal."""
        return self.rank == TERMINAL_RANK


TERMINAL_RANK: Final = JobStatus.SUCCEEDED.rank
TERMINAL_STATUSES: Final = frozenset(status for status in JobStatus if status.is_terminal)
STATUS_ALIASES: Final = {status.value.casefold(): status for status in JobStatus} | {
    "canceled": JobStatus.CANCELLED,
    "completed": JobStatus.SUCCEEDED,
    "complete": JobStatus.SUCCEEDED,
    "success": JobStatus.SUCCEEDED,
    "error": JobStatus.FAILED,
}
"""Every spelling that is accepted, case-folded."""
