"""The jobs: those that are watched, and those that were."""

from typing import Any, Final, Literal

from aiohttp import web

from poller.api.premises import PREMISES, Premises
from poller.api.problems import Problem
from poller.api.reading import JobId, Paged, Strict, read_path, read_query, write_cursor
from poller.store.desk import Filter, Row
from poller.store.pages import jobs_page

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


class JobsQuery(Paged):
    """Which jobs are wanted."""

    state: State | None = None


class JobPath(Strict):
    """Which job is meant."""

    job_id: JobId


async def list_jobs(request: web.Request) -> web.Response:
    """List jobs page by page, the one that changed last first."""
    premises, query = request.app[PREMISES], read_query(request, JobsQuery)
    wanted = Filter(state=query.state, since=query.start, limit=query.limit)
    unseen = premises.work.watcher.roster.unseen()
    page = await premises.look(
        lambda desk: jobs_page(desk, wanted, unseen=unseen, after=query.cursor)
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


async def find_job(premises: Premises, job_id: str) -> dict[str, Any]:
    """Give what is known of a job. Raises Problem."""
    wanted = Filter(job=job_id, limit=1)
    unseen = [job_id] if premises.sources(job_id) else []
    page = await premises.look(lambda desk: jobs_page(desk, wanted, unseen=unseen, after=None))
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
