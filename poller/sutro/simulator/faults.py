"""Error responses that the simulator is configured to send."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Kind = Literal[
    "jobs",
    "list-jobs",
    "job-status",
    "batch-inference",
    "job-cancel",
    "job-results",
    "stream-job-progress",
]
"""The kind of an API request."""


@dataclass(
    frozen=True,
    slots=True,
    kw_only=True,
    config=ConfigDict(extra="forbid", coerce_numbers_to_str=True),
)
class Fault:
    """The response to the next `count` API requests, of one kind (`path`) or about one job.

    `retry_after` is sent as it is: seconds, an HTTP-date, or junk.
    """

    status: Annotated[int, Field(ge=400, le=599)]
    count: Annotated[int, Field(ge=1)] = 1
    retry_after: Annotated[str, Field(pattern="^[ -~]+$")] | None = None
    path: Kind | None = None
    job_id: str | None = None

    def concerns(self, kind: Kind, job_id: str | None) -> bool:
        """Return whether a request of a kind, about a job or none, is to fail."""
        return self.path in {None, kind} and self.job_id in {None, job_id}
