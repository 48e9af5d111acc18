"""The progress of `wait` on stderr: a live table on a terminal, else one line per change."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Final

from poller.cli import print_status
from poller.cli.wait.report import label, name_of, status_text
from poller.core.formatting import format_cost, format_duration
from poller.core.jobs import Job
from poller.core.state import JobEventType
from poller.polling.waiter import JobResult, ProgressListener
from poller.runtime.clock import Clock

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

COLUMNS: Final = ("job", "name", "status", "elapsed", "rows", "tokens in", "out", "cost")
EXPECTED: Final = "expected"
STYLES: Final = {
    JobEventType.SUCCEEDED: "green",
    JobEventType.FAILED: "bold red",
    JobEventType.CANCELLED: "yellow",
    JobEventType.MISSING: "bold red",
    JobEventType.UNRECOGNISED: "bold red",
}
MAX_NAME_WIDTH: Final = 24
MIN_TABLE_COLUMNS: Final = 60
"""In a narrower terminal every cell of the table would be cut."""


NOTEBOOK_VARIABLES: Final = ("JPY_PARENT_PID", "JPY_SESSION_NAME", "COLAB_RELEASE_TAG")
"""Set where a terminal is a cell of a notebook, which keeps every redraw of a table."""


Expect = Callable[[Job], str]
"""Returns when a job may be expected to end; empty where too little is known."""


def progress(
    clock: Clock, *, is_quiet: bool = False, expect: Expect = lambda _: ""
) -> AbstractContextManager[ProgressListener]:
    """Return the live table where it can be shown, else the lines; nothing if that is wanted."""
    if is_quiet:
        return nullcontext(Silence())
    if not sys.stderr.isatty() or any(name in os.environ for name in NOTEBOOK_VARIABLES):
        return nullcontext(Lines(expect))
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
    except ImportError:
        return nullcontext(Lines(expect))
    console = Console(stderr=True)
    has_room = console.width >= MIN_TABLE_COLUMNS and not console.is_dumb_terminal
    return live(console, clock, expect) if has_room else nullcontext(Lines(expect))


class Silence:
    """Print nothing."""

    def report(self, text: str) -> None:
        """Ignore a problem."""

    def update(self, results: Sequence[JobResult]) -> None:
        """Ignore the results so far."""


class Lines:
    """Print a line for each change of status."""

    def __init__(self, expect: Expect = lambda _: "") -> None:
        self._expect = expect
        self._printed: dict[str, str] = {}

    def report(self, text: str) -> None:
        """Print a problem."""
        print_status(text)

    def update(self, results: Sequence[JobResult]) -> None:
        """Print each job whose status has changed."""
        for result in results:
            status = status_of(result)
            if status and self._printed.get(result.job_id) != status:
                self._printed[result.job_id] = status
                expected = result.job and not result.end and self._expect(result.job)
                more = f", expected {expected}" if expected else ""
                print_status(f"{label(result)} {status}{more}")


class LiveTable:
    """A table of all jobs, redrawn several times a second."""

    def __init__(self, console: "Console", clock: Clock, expect: Expect = lambda _: "") -> None:
        self._expect = expect
        self._console = console
        self._clock = clock
        self._results: Sequence[JobResult] = ()

    def report(self, text: str) -> None:
        """Print a problem above the table."""
        self._console.print(text, markup=False, highlight=False)

    def update(self, results: Sequence[JobResult]) -> None:
        """Show these results from the next redraw on."""
        self._results = tuple(results)

    def draw(self) -> "Table":
        """Return the table as of now."""
        from rich.table import Table  # noqa: PLC0415 - an extra
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, header_style="dim")
        expected = [(result.job and self._expect(result.job)) or "" for result in self._results]
        for name in COLUMNS + ((EXPECTED,) if any(expected) else ()):
            is_name = name == "name"
            table.add_column(
                name,
                justify="left" if name in {"job", "name", "status"} else "right",
                no_wrap=is_name,
                overflow="ellipsis" if is_name else "fold",
                max_width=MAX_NAME_WIDTH if is_name else None,
            )
        for result, until in zip(self._results, expected, strict=True):
            style = STYLES[result.end] if result.end else ""
            status = Text(status_of(result) or "-", style)
            names = Text(result.job_id), Text(name_of(result))
            table.add_row(*names, status, *_numbers(result.job, self._clock.now()), until)
        return table


@contextmanager
def live(console: "Console", clock: Clock, expect: Expect = lambda _: "") -> Iterator[LiveTable]:
    """Show a live table while the block runs."""
    from rich.live import Live  # noqa: PLC0415 - an extra

    table = LiveTable(console, clock, expect)
    with Live(console=console, get_renderable=table.draw):
        yield table


def status_of(result: JobResult) -> str | None:
    """Return the status of a job; None before the first response."""
    if result.end is JobEventType.MISSING:
        return "MISSING"
    if result.job is None:
        return None
    is_settling = result.job.status.is_terminal and result.end is None
    return status_text(result.job) + (" (waiting for its last fields)" if is_settling else "")


def _numbers(job: Job | None, now: datetime) -> list[str]:
    """Return the numeric columns of a job; empty where unknown."""
    if job is None:
        return [""] * 5
    counts = (job.num_rows, job.input_tokens, job.output_tokens)
    cost = "" if job.job_cost is None else format_cost(job.job_cost)
    return [_elapsed(job, now), *("" if count is None else f"{count:,}" for count in counts), cost]


def _elapsed(job: Job, now: datetime) -> str:
    """Return the time since a job was created, or until it was complete, in whole seconds."""
    began = job.datetime_created or job.datetime_started
    until = job.datetime_completed if job.status.is_terminal else now
    if began is None or until is None:
        return ""
    return format_duration(max(0.0, (until - began).total_seconds()) // 1)
