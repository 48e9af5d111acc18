"""The progress that `wait` shows."""

import sys
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO
from pathlib import Path

import anyio
import pytest
from rich.console import Console

from poller.cli.expectation import short_text
from poller.cli.wait.forecast import Forecast
from poller.cli.wait.progress import Lines, LiveTable, live, progress
from poller.config import load
from poller.core.durations import ExpectedEnd, JobClass
from poller.core.outbox import WriteBatch
from poller.core.state import JobEventType, Phase
from poller.polling.waiter import JobResult
from poller.runtime.clock import Clock
from tests.support.builders import a_job
from tests.support.store_builders import ManualClock, a_state, a_store

NOW = datetime(2024, 1, 15, 10, 31, 20, 700_000, tzinfo=UTC)
CLOCK = Clock(wall=NOW.timestamp)
RUNNING = a_job(datetime_started="2024-01-15T10:30:15Z", num_rows=5_000)
SETTLING = a_job("SUCCEEDED", datetime_completed="2024-01-15T10:30:15Z")


class Terminal(StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Return true."""
        return True


def drawn(*results: JobResult) -> list[list[str]]:
    """Draw a table of jobs, and return the words of each line."""
    console = Console(file=StringIO(), width=100)
    table = LiveTable(console, CLOCK)
    table.update(results)
    console.print(table.draw())
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_progress_prints_a_line_for_each_change(capsys: pytest.CaptureFixture[str]):
    """A changed status is printed to stderr, and none before the first response."""
    lines = Lines()
    for job in (None, RUNNING, RUNNING, SETTLING):
        lines.update([JobResult(job_id="job-1", job=job)])
    lines.update([JobResult(job_id="job-1", job=SETTLING, end=JobEventType.SUCCEEDED)])
    lines.report("trouble")

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "job-1 RUNNING",
        "job-1 SUCCEEDED (waiting for its last fields)",
        "job-1 SUCCEEDED",
        "trouble",
    ]


def test_progress_table_shows_known_fields():
    """The table has status, elapsed seconds, rows, tokens and cost, as far as they are known."""
    done = a_job("SUCCEEDED", input_tokens=15_420, output_tokens=8_230, job_cost=0.0234)
    header, *rows = drawn(
        JobResult(job_id="job-1", job=RUNNING),
        JobResult(job_id="job-2", job=done, end=JobEventType.SUCCEEDED),
        JobResult(job_id="job-3"),
        JobResult(job_id="job-4", end=JobEventType.MISSING),
    )

    assert header == ["job", "name", "status", "elapsed", "rows", "tokens", "in", "out", "cost"]
    assert rows == [
        ["job-1", "RUNNING", "1m5s", "5,000"],
        ["job-2", "SUCCEEDED", "15,420", "8,230", "$0.0234"],
        ["job-3", "-"],
        ["job-4", "MISSING"],
    ]


def test_progress_table_shows_a_time_that_never_runs_back():
    """The elapsed time counts from the creation of a job, queued, running or ended."""
    created = {"datetime_created": "2024-01-15T10:31:00Z"}
    started = created | {"datetime_started": "2024-01-15T10:31:15Z"}
    completed = started | {"datetime_completed": "2024-01-15T10:31:30Z"}
    _, *rows = drawn(
        JobResult(job_id="job-1", job=a_job("QUEUED", **created)),
        JobResult(job_id="job-1", job=a_job("RUNNING", **started)),
        JobResult(job_id="job-1", job=a_job("FAILED", **completed), end=JobEventType.FAILED),
    )

    assert [row[-1] for row in rows] == ["20s", "20s", "30s"]


def test_progress_names_jobs(capsys: pytest.CaptureFixture[str]):
    """A job has its name beside its ID, in the table and in a line."""
    result = JobResult(job_id="job-1", job=a_job("RUNNING", name="Reviews\nof 2024"))
    Lines().update([result])

    assert drawn(result)[1][:4] == ["job-1", "Reviews", "of", "2024"]
    assert capsys.readouterr().err == "job-1 (Reviews of 2024) RUNNING\n"


def test_progress_table_escapes_markup():
    """The text of a status cannot colour the terminal."""
    _, row = drawn(JobResult(job_id="job-1", job=a_job("[red]ODD[/red]")))

    assert row == ["job-1", "[red]ODD[/red]", "(unknown", "status)"]


def test_progress_prints_messages_above_the_table():
    """A message is printed above the live table, and the last table stays."""
    console = Console(file=StringIO(), width=100, force_terminal=True, color_system=None)
    with live(console, CLOCK) as table:
        table.update([JobResult(job_id="job-1", job=RUNNING)])
        table.report("[trouble]")

    shown = console.file.getvalue()
    assert "[trouble]" in shown
    assert shown.rindex("RUNNING") > shown.index("[trouble]")


def test_progress_on_a_terminal_is_a_table(monkeypatch: pytest.MonkeyPatch):
    """On a terminal with rich there is a table."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")

    with progress(CLOCK) as listener:
        assert isinstance(listener, LiveTable)


def test_progress_on_a_narrow_terminal_is_lines(monkeypatch: pytest.MonkeyPatch):
    """A terminal too narrow for the table gets lines."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "40")

    with progress(CLOCK) as listener:
        assert isinstance(listener, Lines)


@pytest.mark.parametrize(("name", "text"), [("TERM", "dumb"), ("JPY_PARENT_PID", "42")])
def test_progress_where_no_cursor_moves_is_lines(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
):
    """A notebook, which claims to be a terminal, and a dumb terminal get lines."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv(name, text)

    with progress(CLOCK) as listener:
        assert isinstance(listener, Lines)


def test_progress_can_be_silent(capsys: pytest.CaptureFixture[str]):
    """Without progress nothing is printed, so that both streams together are the result."""
    with progress(CLOCK, is_quiet=True) as listener:
        listener.update([JobResult(job_id="job-1", job=RUNNING)])
        listener.report("trouble")

    assert capsys.readouterr() == ("", "")


def test_progress_without_rich_is_lines(monkeypatch: pytest.MonkeyPatch):
    """Without rich a terminal gets lines."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setitem(sys.modules, "rich.console", None)

    with progress(CLOCK) as listener:
        assert isinstance(listener, Lines)


def test_progress_in_a_file_is_lines(monkeypatch: pytest.MonkeyPatch):
    """A file gets lines."""
    monkeypatch.setattr(sys, "stderr", StringIO())

    with progress(CLOCK) as listener:
        assert isinstance(listener, Lines)


def test_progress_shows_when_a_job_may_be_expected_to_end(capsys: pytest.CaptureFixture[str]):
    """What is expected is on the line of a job that runs, and a column of the table."""
    lines = Lines(lambda _: "12:40, 95 % by 12:55")
    lines.update([JobResult(job_id="job-1", job=RUNNING)])
    lines.update([JobResult(job_id="job-1", job=SETTLING, end=JobEventType.SUCCEEDED)])
    console = Console(file=StringIO(), width=120)
    table = LiveTable(console, CLOCK, lambda _: "12:40, 95 % by 12:55")
    table.update([JobResult(job_id="job-1", job=RUNNING), JobResult(job_id="job-2")])
    console.print(table.draw())

    assert capsys.readouterr().err.splitlines() == [
        "job-1 RUNNING, expected 12:40, 95 % by 12:55",
        "job-1 SUCCEEDED",
    ]
    shown = [line.split() for line in console.file.getvalue().splitlines()]
    assert shown[0][-1] == "expected"
    assert shown[1][-5:] == ["12:40,", "95", "%", "by", "12:55"]
    assert shown[2] == ["job-2", "-"]


@pytest.mark.parametrize(
    ("p50", "p95", "text"),
    [
        ({"minutes": 9}, {"minutes": 24}, "12:40, 95 % by 12:55"),
        ({"hours": 1}, {"hours": 30}, "13:31, 95 % by Tue 18:31"),
        ({"days": 7}, {"days": 30}, "22 Jan 12:31, 95 % by 14 Feb 12:31"),
    ],
)
def test_an_expected_end_is_in_local_time(p50: dict, p95: dict, text: str):
    """Times of today are short, others have the day; all are in the zone of the reader."""
    now = NOW.astimezone(timezone(timedelta(hours=2)))
    expected = ExpectedEnd(
        p50=NOW + timedelta(**p50), p95=NOW + timedelta(**p95), basis=JobClass(), samples=20
    )

    assert short_text(expected, now) == text


def test_a_wait_expects_nothing_without_a_database(tmp_path: Path):
    """A wait needs no database; one that holds ended jobs shows when a job may end."""
    settings = {"SUTRO_API_KEY": "sk_x", "POLLER_STORE": str(tmp_path / "none.db")}
    config = load(settings, for_run=False, is_delivering=False)
    forecast = Forecast(config, CLOCK)
    forecast._history.exception(timeout=60.0)

    assert forecast.of(RUNNING) == ""


def test_a_wait_reads_the_database_of_a_daemon(tmp_path: Path):
    """What a daemon of the same deployment has recorded is what a wait compares with."""
    path = tmp_path / "state.db"

    async def seed() -> None:
        ends = [
            a_job(
                "SUCCEEDED",
                datetime_created="2024-01-15T08:00:00Z",
                datetime_started="2024-01-15T08:00:00Z",
                datetime_completed="2024-01-15T10:00:00Z",
            )
        ] * 20
        states = [
            a_state(f"job-{n}", phase=Phase.DONE, status=job.status, job=job)
            for n, job in enumerate(ends, 100)
        ]
        async with a_store(path, ManualClock()) as store:
            await store.write(WriteBatch(states=states))

    anyio.run(seed)
    settings = {"SUTRO_API_KEY": "sk_x", "POLLER_STORE": str(path)}
    forecast = Forecast(load(settings, for_run=False, is_delivering=False), CLOCK)
    forecast._history.exception(timeout=60.0)

    assert "95 % by" in forecast.of(RUNNING)
