"""Watched jobs, and jobs that were watched."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field
from typing_extensions import TypedDict

from poller.api.context import ApiContext
from poller.api.models import (
    CURSOR_TEXT,
    JobId,
    JobsCursor,
    JobState,
    NextCursor,
    PageQuery,
    ResponseModel,
    StrictModel,
    UtcTime,
    format_cursor,
    parse_cursor,
)
from poller.api.problems import Problem
from poller.core.state import Phase
from poller.store.filters import EventFilter, Row
from poller.store.pagination import jobs_page, watched_page

IDS_PER_REQUEST: Final = 1_000
MAX_ADDED_IDS: Final = 100_000
SETTINGS: Final = {
    "environment": "POLLER_JOB_IDS",
    "file": "POLLER_JOBS_FILE",
    "discovery": "POLLER_DISCOVER",
}
"""The setting behind each source of watched jobs, but for the API itself."""


class JobsQuery(PageQuery):
    """The jobs to list."""

    state: JobState | None = Field(None, description="Only jobs in this state")
    watched: Literal["true"] | None = Field(None, description="Only jobs that are watched now")
    cursor: JobsCursor | None = Field(None, description=CURSOR_TEXT)


class NewJobs(StrictModel):
    """The jobs to watch."""

    job_ids: Annotated[
        tuple[JobId, ...], Field(min_length=1, max_length=IDS_PER_REQUEST, strict=False)
    ] = Field(examples=[["job-12345"]])


class JobClass(ResponseModel):
    """The ended jobs that a job is compared with; null is no condition."""

    model: str | None
    min_rows: int | None
    max_rows: int | None
    priority: int | None


Basis = TypedDict("Basis", {"class": JobClass, "samples": Annotated[int, Field(ge=20)]})


class ExpectedEnd(ResponseModel):
    """The times by which half, and 95 %, of the jobs like this one end."""

    p50: UtcTime
    p95: UtcTime
    basis: Basis = Field(
        description="The ended jobs of a class that took longer than this job has so far"
    )


class Job(ResponseModel):
    """A job that is or was watched."""

    job_id: JobId
    state: JobState
    watched_by: list[Literal["environment", "file", "api", "discovery"]] = Field(
        description="Why the job is watched; empty if it is not"
    )
    not_found: bool = Field(
        description="True if the job is watched by its ID, and the API does not know it (404)"
    )
    changed_at: UtcTime | None
    deployment: str | None
    expected_end: ExpectedEnd | None = Field(
        description="Null for a job that has ended, and without 20 ended jobs to compare it with"
    )
    job: dict[str, Any] | None = Field(
        description="The job object as last recorded, without prompts and schemas"
    )


class JobPage(ResponseModel):
    """A page of jobs."""

    jobs: list[Job]
    next_cursor: NextCursor


class AddedJob(ResponseModel):
    """One of the jobs that were sent."""

    job_id: JobId
    is_new: bool = Field(description="False if the job was watched already")


class AddedJobs(ResponseModel):
    """The jobs, which are watched now."""

    jobs: list[AddedJob]


async def list_jobs(context: ApiContext, query: JobsQuery) -> JobPage:
    """List jobs, the last changed first; with `watched` in the order of their IDs."""
    wanted = EventFilter(state=query.state, since=query.start, limit=query.limit)
    after = parse_cursor(query.cursor, str)
    if query.watched:
        watched = context.watchlist.watched_ids
        page = await context.query(watched_page, wanted, after, watched=watched)
    else:
        unseen = context.daemon.watcher.tracker.unseen_ids
        page = await context.query(jobs_page, wanted, after, unseen=unseen)
    jobs = [_job(row, context) for row in page.rows]
    return JobPage(jobs=jobs, next_cursor=format_cursor(page.after))


async def show_job(context: ApiContext, job_id: JobId) -> Job:
    """Return one job."""
    wanted = EventFilter(job=job_id, limit=1)
    unseen = [job_id] if context.watchlist.sources(job_id) else []
    page = await context.query(jobs_page, wanted, unseen=unseen)
    if not page.rows:
        raise Problem("not-found", "no job with this ID is or was watched")
    return _job(page.rows[0], context)


async def add_jobs(context: ApiContext, body: NewJobs) -> AddedJobs:
    """Watch jobs; return which of them are new.

    They stay watched after a restart. Idempotent.
    """
    job_ids = list(dict.fromkeys(body.job_ids))
    watchlist = context.watchlist
    jobs = [AddedJob(job_id=job_id, is_new=not watchlist.sources(job_id)) for job_id in job_ids]
    if len({*watchlist.added, *job_ids}) > MAX_ADDED_IDS:
        raise Problem("conflict", f"at most {MAX_ADDED_IDS} jobs can be added")
    await context.daemon.additions.add(job_ids)
    return AddedJobs(jobs=jobs)


async def remove_job(context: ApiContext, job_id: JobId) -> None:
    """Stop watching a job that was added; if its end is being settled, it is still announced.

    Jobs of the settings, the jobs file or discovery cannot be removed (409).
    """
    additions, sources = context.daemon.additions, context.watchlist.sources(job_id)
    if not sources:
        raise Problem("not-found", "no job with this ID is watched")
    if settings := [SETTINGS[source] for source in sources if source in SETTINGS]:
        raise Problem("managed-by-config", f"watched because of {' and '.join(settings)}")
    await additions.remove([job_id])


def _job(row: Row, context: ApiContext) -> Job:
    job_id = row["job_id"]
    tracker = context.daemon.watcher.tracker
    expected = None
    if row["state"] != Phase.MISSING.name:
        expected = tracker.history.expected_end_of(row["job"], context.clock.now())
    return Job.of_row(
        row,
        expected_end=expected and expected.as_dict(),
        watched_by=context.watchlist.sources(job_id),
        not_found=context.daemon.watcher.is_not_found(job_id),
    )
