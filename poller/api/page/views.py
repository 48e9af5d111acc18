"""The pages: each is read from the database and rendered in one thread."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final

from aiohttp import web
from anyio.to_thread import run_sync
from pydantic import Field, model_validator

from poller.api.context import ApiContext
from poller.api.jobs import SETTINGS
from poller.api.models import (
    JobId,
    JobsCursor,
    JobState,
    SinkName,
    StrictModel,
    format_cursor,
    parse_cursor,
)
from poller.api.page import text
from poller.api.page.charts import charts_section
from poller.api.page.health import HealthView
from poller.api.page.job_view import read_job
from poller.api.page.markup import Markup
from poller.api.page.render import render
from poller.api.page.responses import html
from poller.api.page.rows import DeliveryRow, JobRow, SinkRow
from poller.api.problems import Problem, from_store
from poller.core.duration_history import DurationHistory
from poller.core.errors import StoreError
from poller.core.job_status import TERMINAL_STATUSES, JobStatus
from poller.core.outbox import DeliveryStatus
from poller.store.admin import StoreAdmin
from poller.store.figures import read_figures
from poller.store.filters import EventFilter
from poller.store.overview import JobFilter, jobs_in_states, last_deliveries
from poller.store.pagination import Cursor, Page, deliveries_page

ROWS: Final = 50
FEW_ROWS: Final = 5
"""Dead letters on the first page, which has a link to the others."""
ENDED: Final = (*sorted(TERMINAL_STATUSES), "MISSING")
ACTIVE: Final = tuple(status for status in JobStatus if not status.is_terminal)
STATES: Final = (*ACTIVE, *ENDED)
SOURCES: Final = {**SETTINGS, "api": "the HTTP API"}
LISTS: Final = {"active": (ACTIVE, ROWS), "ended": (ENDED, 25)}
"""The states of each list of jobs, and its rows at once, by the parameter that says its start."""

Words = Annotated[str, Field(max_length=200)]
MessageName = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class PageRequest(StrictModel):
    """The parameters of every page; an empty field of a form is none."""

    message: MessageName | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in values.items() if value.strip()}


class OverviewQuery(PageRequest):
    """The filters of jobs, and where each list begins."""

    name: Words = ""
    model: Words = ""
    state: JobState | None = None
    active: JobsCursor | None = None
    ended: JobsCursor | None = None

    @property
    def filters(self) -> dict[str, str | None]:
        """The filters as parameters of a link."""
        return {"name": self.name, "model": self.model, "state": self.state}


class DeadLettersQuery(PageRequest):
    """The dead letters to list."""

    sink: SinkName | None = None
    before: int | None = Field(None, ge=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobList:
    """A part of a list of jobs, and links to its other parts."""

    rows: Sequence[JobRow]
    next: str | None
    first: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenJob:
    """A job that no response has shown yet."""

    job_id: str
    path: str
    is_not_found: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the database has for the first page."""

    active: JobList
    ended: JobList
    charts: Markup
    sinks: Sequence[SinkRow]
    dead: Sequence[DeliveryRow]
    has_more_dead: bool


async def overview(
    context: ApiContext, request: web.Request, query: OverviewQuery
) -> web.StreamResponse:
    """Return the page at /; while the daemon is not ready, its health alone."""
    now = context.clock.now()
    values = await _common(context, request, now) | {"query": query, "states": STATES}
    try:
        running = context.daemon
        unseen = running.watcher.tracker.unseen_ids
        jobs = [_unseen(context, job_id) for job_id in sorted(unseen)[:ROWS]]
        values |= {"unseen": jobs, "unseen_count": len(unseen)}
        testable = frozenset(running.dispatcher.sinks)
        history, budget = running.watcher.tracker.history, _daily_budget(context)
        page = await context.query(
            lambda admin: render(
                "overview.html",
                problem=None,
                page=_overview(admin, query, now, testable, history, budget),
                **values,
            )
        )
    except (Problem, StoreError) as error:
        problem = from_store(error) if isinstance(error, StoreError) else error
        page = await run_sync(
            partial(render, "overview.html", problem=problem.document, page=None, **values)
        )
        response = html(page, problem.document.status)
        response.headers.update(problem.headers)
        return response
    return html(page)


async def job(
    context: ApiContext, request: web.Request, job_id: JobId, query: PageRequest
) -> web.StreamResponse:
    """Return the page of one job."""
    now = context.clock.now()
    values = await _common(context, request, now) | {"query": query}
    sources = context.watchlist.sources(job_id)
    names = " and ".join(SOURCES[source] for source in sources)
    values |= {"sources": names, "is_not_found": context.daemon.watcher.is_not_found(job_id)}
    unseen = [job_id] if sources else []
    history = context.daemon.watcher.tracker.history
    page = await context.query(
        lambda admin: render(
            "job.html", page=read_job(admin, job_id, unseen, now, history), **values
        )
    )
    return html(page)


async def dead_letters(
    context: ApiContext, request: web.Request, query: DeadLettersQuery
) -> web.StreamResponse:
    """Return a page of dead letters."""
    now = context.clock.now()
    values = await _common(context, request, now) | {"query": query}

    def read(admin: StoreAdmin) -> str:
        cursor = None if query.before is None else (0.0, query.before)
        page = _dead(admin, ROWS, query.sink, cursor)
        after = page.after and link_of_dead_letters(query, before=str(page.after[1]))
        rows = [DeliveryRow.of(row, now) for row in page.rows]
        back = link_of_dead_letters(query)
        return render("dead_letters.html", rows=rows, next=after, back=back, **values)

    return html(await context.query(read))


def link_of_dead_letters(query: DeadLettersQuery, before: str | None = None) -> str:
    """Return the path of a page of the same dead letters."""
    return text.link("/dead-letters", sink=query.sink, before=before)


async def _common(context: ApiContext, request: web.Request, now: datetime) -> dict[str, Any]:
    """Return the values that every page has."""
    name = request.query.get("message", "")
    return {
        "health": await HealthView.of(context, now),
        "now": text.moment(now, now),
        "message": context.messages.get(name),
        "api_url": context.config.settings.api_url,
        "can_log_out": context.config.settings.listen_token is not None,
    }


def _daily_budget(context: ApiContext) -> float | None:
    """Return the budget of a day, if it is for the jobs of all models, as the charts are."""
    settings = context.config.settings
    return None if settings.budget_models else float(settings.budget_daily or 0) or None


def _overview(
    admin: StoreAdmin,
    query: OverviewQuery,
    now: datetime,
    testable: frozenset[str],
    history: DurationHistory,
    daily_budget: float | None,
) -> Overview:
    """Read the lists of the first page."""
    dead = _dead(admin, FEW_ROWS)
    delivered = last_deliveries(admin)
    return Overview(
        active=_job_list(admin, query, now, "active", history),
        ended=_job_list(admin, query, now, "ended", history),
        charts=charts_section(
            replace(read_figures(admin, now.timestamp()), daily_budget=daily_budget)
        ),
        sinks=[
            SinkRow.of(row, now, delivered=delivered, testable=testable) for row in admin.sinks()
        ],
        dead=[DeliveryRow.of(row, now) for row in dead.rows],
        has_more_dead=dead.after is not None,
    )


def _job_list(
    admin: StoreAdmin, query: OverviewQuery, now: datetime, cursor: str, history: DurationHistory
) -> JobList:
    """Read one of LISTS."""
    states, limit = LISTS[cursor]
    chosen = [state for state in states if query.state in {None, state}]
    after = getattr(query, cursor)
    page = Page([], None)
    if chosen:
        wanted = JobFilter(states=chosen, name=query.name, model=query.model, limit=limit)
        page = jobs_in_states(admin, wanted, parse_cursor(after, str))
    following = format_cursor(page.after)
    anchor = f"#{cursor}"
    return JobList(
        rows=[JobRow.of(row, now, history) for row in page.rows],
        next=following and text.link("/", **query.filters, **{cursor: following}) + anchor,
        first=after and text.link("/", **query.filters) + anchor,
    )


def _dead(
    admin: StoreAdmin, limit: int, sink: str | None = None, after: Cursor | None = None
) -> Page:
    wanted = EventFilter(state=DeliveryStatus.DEAD, sink=sink, limit=limit)
    return deliveries_page(admin, wanted, after)


def _unseen(context: ApiContext, job_id: str) -> UnseenJob:
    return UnseenJob(
        job_id=job_id,
        path=text.job_path(job_id),
        is_not_found=context.daemon.watcher.is_not_found(job_id),
    )
