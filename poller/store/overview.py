"""What the page at / shows: jobs by their states, with other filters, and recent deliveries."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from poller.store import list_sql
from poller.store.filters import Row, select
from poller.store.pagination import START, Cursor, Page, page_of, with_jobs

if TYPE_CHECKING:
    from poller.store.admin import StoreAdmin

READ_JOBS: Final = 10_000
"""Jobs that are read for one page if only those of a name or a model are wanted."""
READ_DELIVERIES: Final = 1_000
FIRST_JOB: Final[Cursor] = (0.0, "")

LAST_DELIVERIES: Final = """
SELECT name AS sink, (
        SELECT max(ended_at)
          FROM deliveries
         WHERE id > (SELECT max(id) FROM deliveries) - :read
           AND sink = name
           AND +status = 'delivered'
       ) AS delivered_at
  FROM sinks
"""
"""Among the newest deliveries: no index has those that were delivered."""

EVENTS_OF_JOB: Final = """
SELECT id, type, recorded_at AS recorded, follows, body, digest
  FROM events
 WHERE subject = :job
 ORDER BY recorded_at, rowid
 LIMIT :limit
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """The jobs to show: parts of a name or an id, and of a model. Empty texts match all."""

    states: Sequence[str]
    name: str = ""
    model: str = ""
    limit: int

    @property
    def values(self) -> dict[str, Any]:
        """The values of an SQL statement, which reads one row more than the limit."""
        return {
            "name": self.name.lower(),
            "model": self.model.lower(),
            "limit": self.limit + 1,
            "read": READ_JOBS,
        }


def jobs_in_states(admin: "StoreAdmin", wanted: JobFilter, after: Cursor | None = None) -> Page:
    """Return recorded jobs in some states, the last changed first.

    At most READ_JOBS are read to find those of a name or a model: then a page may have fewer rows
    than its limit, or none, although another one follows.
    """
    time, key = after or START
    values = wanted.values | {"cursor_time": time, "cursor_key": key}
    is_filtered = bool(wanted.name or wanted.model)

    def work(db: sqlite3.Connection) -> Page:
        last = None
        if is_filtered:
            last = db.execute(list_sql.last_job_in(wanted.states), values).fetchone()
        last_time, last_key = last or FIRST_JOB
        statement = list_sql.jobs_in(wanted.states, is_filtered=is_filtered)
        rows = select(db, statement, values | {"last_time": last_time, "last_key": last_key})
        page = page_of(rows, wanted.limit)
        return replace(page, after=(last_time, last_key)) if last and not page.after else page

    return with_jobs(admin.read(work))


def last_deliveries(admin: "StoreAdmin") -> dict[str, str | None]:
    """Return when each sink last got an event, if it is among the newest deliveries."""
    rows = admin.read(lambda db: select(db, LAST_DELIVERIES, {"read": READ_DELIVERIES}))
    return {row["sink"]: row["delivered_at"] for row in rows}


def events_of_job(admin: "StoreAdmin", job_id: str, limit: int) -> list[Row]:
    """Return the first events of a job, with their bodies, in the order of recording.

    `recorded` is in seconds since 1970.
    """
    values = {"job": job_id, "limit": limit}
    return admin.read(lambda db: select(db, EVENTS_OF_JOB, values))
