"""The jobs: those that are watched, and those that were."""

from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import Field

from poller.api.context import PREMISES, Premises
from poller.api.parameters import (
    JobId,
    JobsCursor,
    Paged,
    Strict,
    read_body,
    read_cursor,
    read_path,
    read_query,
    write_cursor,
)
from poller.api.problems import Problem
from poller.store.admin import Filter, Row
from poller.store.pagination import jobs_page

State = Literal[
    "UNKNOWN",
    "SUBMITTED",
    "PENDING",
    "QUEUED",
    "STARTING",
    "RUNNING",
    "CANCELLING",
    "SUCCEEDED",
    "FAILED",
    "CANCELLED",
    "MISSING",
]
NO_SUCH: Final = "no job of this id is watched, or was"
AT_ONCE: Final = 1_000
MOST_ADDED: Final = 100_000
SOURCES: Final = {
    "environment": "POLLER_JOB_IDS",
    "file": "POLLER_JOBS_FILE",
    "discovery": "POLLER_DISCOVER",
}
"""What names a job, by the word for it."""


class JobsQuery(Paged):
    """Which jobs are wanted."""

    state: State | None = None
    watched: Literal["true"] | None = None
    cursor: JobsCursor | None = None


class JobPath(Strict):
    """Which job is meant."""

    job_id: JobId


class NewJobs(Strict):
    """Which jobs are to be watched."""

    job_ids: Annotated[tuple[JobId, ...], Field(min_length=1, max_length=AT_ONCE, strict=False)]


async def list_jobs(request: web.Request) -> web.Response:
    """List jobs page by page, the one that changed last first."""
    premises, query = request.app[PREMISES], read_query(request, JobsQuery)
    wanted = Filter(state=query.state, since=query.start, limit=query.limit)
    roster, after = premises.work.watcher.roster, read_cursor(query.cursor, str)
    unseen, watched = roster.unseen(), None
    if query.watched:
        watched = {*premises.watchlist.job_ids, *roster.finds}
    page = await premises.look(
        lambda desk: jobs_page(desk, wanted, after=after, unseen=unseen, watched=watched)
    )
    return web.json_response(
        {
            "jobs": [_view(row, premises) for row in page.rows],
            "next_cursor": write_cursor(page.after),
        }
    )


async def show_job(request: web.Request) -> web.Response:
    """Show one job."""
    read_query(request, Strict)
    premises, job_id = request.app[PREMISES], read_path(request, JobPath).job_id
    return web.json_response(await find_job(premises, job_id))


async def add_jobs(request: web.Request) -> web.Response:
    """Watch jobs; those that are watched already stay so, and say so."""
    read_query(request, Strict)
    premises, body = request.app[PREMISES], await read_body(request, NewJobs)
    job_ids, watchlist = list(dict.fromkeys(body.job_ids)), premises.watchlist
    added = [{"job_id": it, "is_new": not premises.sources(it)} for it in job_ids]
    if len({*watchlist.added, *job_ids}) > MOST_ADDED:
        raise Problem("obstacle", f"no more than {MOST_ADDED} jobs can be added")
    await premises.work.additions.add(job_ids)
    return web.json_response({"jobs": added})


async def remove_job(request: web.Request) -> web.Response:
    """Watch a job no more that was added here. An end that is being told is told."""
    read_query(request, Strict)
    premises, job_id = request.app[PREMISES], read_path(request, JobPath).job_id
    sources = premises.sources(job_id)
    if not sources:
        raise Problem("not-found", "no job of this id is watched")
    if named := [SOURCES[it] for it in sources if it in SOURCES]:
        raise Problem("configured", f"{' and '.join(named)} would have it watched on")
    await premises.work.additions.remove([job_id])
    return web.Response(status=204)


async def find_job(premises: Premises, job_id: str) -> dict[str, Any]:
    """Give what is known of a job. Raises Problem."""
    wanted = Filter(job=job_id, limit=1)
    unseen = [job_id] if premises.sources(job_id) else []
    page = await premises.look(lambda desk: jobs_page(desk, wanted, unseen=unseen))
    if not page.rows:
        raise Problem("not-found", NO_SUCH)
    return _view(page.rows[0], premises)


def _view(row: Row, premises: Premises) -> dict[str, Any]:
    return {
        "job_id": row["job_id"],
        "state": row["state"],
        "watched_by": premises.sources(row["job_id"]),
        "changed_at": row["changed_at"],
        "deployment": row["deployment"],
        "job": row["job"],
    }
