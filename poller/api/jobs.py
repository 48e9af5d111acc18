"""The jobs: those that are watched, and those that were."""

from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import Field

from poller.api.context import CONTEXT, ApiContext
from poller.api.parameters import (
    JobId,
    JobsCursor,
    PageQuery,
    StrictModel,
    read_body,
    read_cursor,
    read_path,
    read_query,
    write_cursor,
)
from poller.api.problems import Problem
from poller.store.admin import EventFilter, Row
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
UNKNOWN_JOB: Final = "no job of this id is watched, or was"
IDS_PER_TRANSACTION: Final = 1_000
MAX_ADDED_IDS: Final = 100_000
SOURCES: Final = {
    "environment": "POLLER_JOB_IDS",
    "file": "POLLER_JOBS_FILE",
    "discovery": "POLLER_DISCOVER",
}
"""What names a job, by the word for it."""


class JobsQuery(PageQuery):
    """Which jobs are wanted."""

    state: State | None = None
    watched: Literal["true"] | None = None
    cursor: JobsCursor | None = None


class JobPath(StrictModel):
    """Which job is meant."""

    job_id: JobId


class NewJobs(StrictModel):
    """Which jobs are to be watched."""

    job_ids: Annotated[
        tuple[JobId, ...], Field(min_length=1, max_length=IDS_PER_TRANSACTION, strict=False)
    ]


async def list_jobs(request: web.Request) -> web.Response:
    """List jobs page by page, the one that changed last first."""
    context, query = request.app[CONTEXT], read_query(request, JobsQuery)
    wanted = EventFilter(state=query.state, since=query.start, limit=query.limit)
    unseen, after = context.daemon.watcher.unseen_ids, read_cursor(query.cursor, str)
    watched = context.watchlist.watched_ids if query.watched else None
    page = await context.query(
        lambda admin: jobs_page(admin, wanted, after=after, unseen=unseen, watched=watched)
    )
    return web.json_response(
        {
            "jobs": [_view(row, context) for row in page.rows],
            "next_cursor": write_cursor(page.after),
        }
    )


async def show_job(request: web.Request) -> web.Response:
    """Show one job."""
    read_query(request, StrictModel)
    context, job_id = request.app[CONTEXT], read_path(request, JobPath).job_id
    return web.json_response(await find_job(context, job_id))


async def add_jobs(request: web.Request) -> web.Response:
    """Watch jobs; those that are watched already stay so, and say so."""
    read_query(request, StrictModel)
    context, body = request.app[CONTEXT], await read_body(request, NewJobs)
    job_ids, watchlist = list(dict.fromkeys(body.job_ids)), context.watchlist
    added = [{"job_id": it, "is_new": not watchlist.sources(it)} for it in job_ids]
    if len({*watchlist.added, *job_ids}) > MAX_ADDED_IDS:
        raise Problem("conflict", f"no more than {MAX_ADDED_IDS} jobs can be added")
    await context.daemon.additions.add(job_ids)
    return web.json_response({"jobs": added})


async def remove_job(request: web.Request) -> web.Response:
    """Watch a job no more that was added here. An end that is being told is told."""
    read_query(request, StrictModel)
    context, job_id = request.app[CONTEXT], read_path(request, JobPath).job_id
    additions, sources = context.daemon.additions, context.watchlist.sources(job_id)
    if not sources:
        raise Problem("not-found", "no job of this id is watched")
    if named := [SOURCES[it] for it in sources if it in SOURCES]:
        raise Problem("managed-by-config", f"{' and '.join(named)} would have it watched on")
    await additions.remove([job_id])
    return web.Response(status=204)


async def find_job(context: ApiContext, job_id: str) -> dict[str, Any]:
    """Give what is known of a job. Raises Problem."""
    wanted = EventFilter(job=job_id, limit=1)
    unseen = [job_id] if context.watchlist.sources(job_id) else []
    page = await context.query(lambda admin: jobs_page(admin, wanted, unseen=unseen))
    if not page.rows:
        raise Problem("not-found", UNKNOWN_JOB)
    return _view(page.rows[0], context)


def _view(row: Row, context: ApiContext) -> dict[str, Any]:
    return {
        "job_id": row["job_id"],
        "state": row["state"],
        "watched_by": context.watchlist.sources(row["job_id"]),
        "changed_at": row["changed_at"],
        "deployment": row["deployment"],
        "job": row["job"],
    }
