"""The pages of the account's list, and requests for them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from poller.sutro.client import JobPage


@dataclass(slots=True, eq=False)
class ListPage:
    """A page of the list, as it was last read. `oldest` is None before that.

    `has_all_rows`: no other page has shown one of its jobs since.
    """

    number: int
    cursor: str | None
    job_ids: list[str] = field(default_factory=list)
    oldest: datetime | None = None
    is_read: bool = False
    has_all_rows: bool = False


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page to request. `is_whole`: it ends where the next page begins."""

    page: ListPage
    limit: int
    is_whole: bool


class PageRead(NamedTuple):
    """A page that was read, and when it was requested."""

    request: PageRequest
    page: JobPage
    requested_at: float
