"""How `wait` shows on stderr what goes on: a live table on a terminal, else a line a change."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Final

from poller.cli import print_status
from poller.cli.wait.report import status_text
from poller.core.formatting import format_cost, format_duration
from poller.core.jobs import Job
from poller.core.state import JobEventType
from poller.polling.waiter import JobResult, ProgressListener
from poller.runtime.clock import Clock

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

COLUMNS: Final = ("job", "status", "elapsed", "rows", "tokens in", "out", "cost")
STYLES: Final = {
    JobEventType.SUCCEEDED: "green",
    JobEventType.FAILED: "bold red",
    JobEventType.CANCELLED: "yellow",
    JobEventType.MISSING: "bold red",
}
REFRESH: Final = 4.0
NARROWEST: Final = 60
"""Columns of a terminal; a narrower one would cut every cell of the table."""


def progress(clock: Clock) -> AbstractContextManager[ProgressListener]:
    """Give the live table where it can be shown, else the lines."""
    if not sys.stderr.isatty():
        return nullcontext(Lines())
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
    except ImportError:
        return nullcontext(Lines())
    console = Console(stderr=True)
    return live(console, clock) if console.width >= NARROWEST else nullcontext(Lines())


class Lines:
    """A line for each change of a job."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def report(self, text: str) -> None:
        """Write of trouble."""
        print_status(text)

    def update(self, results: Sequence[JobResult]) -> None:
        """Write of each job whose status is another than before."""
        for it in results:
            status = status_of(it)
            if status and self._told.get(it.job_id) != status:
                self._told[it.job_id] = status
                print_status(f"{it.job_id} {status}")


class LiveTable:
    """A table of all jobs that is drawn anew all the time, for its seconds to pass."""

    def __init__(self, console: "Console", clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._standings: Sequence[JobResult] = ()

    def report(self, text: str) -> None:
        """Write of trouble above the table."""
        self._console.print(text, markup=False, highlight=False)

    def update(self, results: Sequence[JobResult]) -> None:
        """Show this from the next drawing on."""
        self._standings = tuple(results)

    def draw(self) -> "Table":
        """Draw the table as of now."""
        from rich.table import Table  # noqa: PLC0415 - an extra
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in {"job", "status"} else "right")
        for it in self._standings:
            status = Text(status_of(it) or "-", STYLES[it.end] if it.end else "")
            table.add_row(Text(it.job_id), status, *_numbers(it.job, self._clock.now()))
        return table


@contextmanager
def live(console: "Console", clock: Clock) -> Iterator[LiveTable]:
    """Keep a live table on a console while the block runs."""
    from rich.live import Live  # noqa: PLC0415 - an extra

    table = LiveTable(console, clock)
    with Live(console=console, get_renderable=table.draw, refresh_per_second=REFRESH):
        yield table


def status_of(it: JobResult) -> str | None:
    """Give a job's status in a word, None before it is seen."""
    if it.end is JobEventType.MISSING:
        return "MISSING"
    if it.job is None:
        return None
    is_settling = it.job.status.is_terminal and it.end is None
    return status_text(it.job) + (" (its cost is awaited)" if is_settling else "")


def _numbers(job: Job | None, now: datetime) -> list[str]:
    """Write the columns of a job that are numbers; empty what is not known."""
    if job is None:
        return [""] * 5
    counts = (job.num_rows, job.input_tokens, job.output_tokens)
    cost = "" if job.job_cost is None else format_cost(job.job_cost)
    return [_elapsed(job, now), *("" if it is None else f"{it:,}" for it in counts), cost]


def _elapsed(job: Job, now: datetime) -> str:
    """Say how long a job has run, or has waited to run; whole seconds while that goes on."""
    if job.run_seconds is not None:
        return format_duration(job.run_seconds)
    began = job.datetime_started or job.datetime_created
    if began is None or job.status.is_terminal:
        return ""
    return format_duration(max(0.0, (now - began).total_seconds()) // 1)
