"""Reads of the file that names jobs: whatever its disk, its writer and its lines do."""

import os
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from poller.core.jobs import JOB_ID_RULE, is_job_id
from poller.polling.jobs_file import STILL_SECONDS, JobsFile
from poller.polling.jobs_text import parse_lines
from poller.polling.watchlist import FILE_POLL_INTERVAL, JobIds, Watchlist
from poller.runtime.bounded_read import READ_TIMEOUT
from tests.support.fake_disk import FakeDisk

pytestmark = pytest.mark.virtual(limit=3_600.0)


@pytest.fixture
def file(tmp_path: Path) -> JobsFile:
    """Return a jobs file that is not there yet."""
    return JobsFile(tmp_path / "jobs")


async def after(seconds: float, file: JobsFile) -> list[str]:
    """Return the ids that are known so long from now."""
    end = anyio.current_time() + seconds
    while anyio.current_time() < end:
        await file.refresh()
        await anyio.sleep(FILE_POLL_INTERVAL)
    return list(file.job_ids)


async def test_last_line_without_its_line_break_counts_after_a_minute(file: JobsFile):
    """Half an id, as a buffer leaves it, is no id; after a minute without a change it is whole."""
    file.path.write_text("job-1\njob-10")
    half = await after(STILL_SECONDS - 4.0, file), file.is_read
    file.path.write_text("job-1\njob-10001\njob-2")
    grown = await after(STILL_SECONDS - 4.0, file), file.is_read
    still = await after(8.0, file), file.is_read

    assert half == (["job-1"], False)
    assert grown == (["job-1", "job-10001"], False)
    assert still == (["job-1", "job-10001", "job-2"], True)


async def test_last_line_of_an_old_file_counts_at_once(file: JobsFile):
    """A file that was written long ago needs no line break at its end."""
    file.path.write_text("job-1")
    os.utime(file.path, (0.0, 0.0))
    await file.refresh()

    assert (list(file.job_ids), file.is_read) == (["job-1"], True)


async def test_jobs_file_that_hangs_delays_nothing_else(file: JobsFile, fake_disk: FakeDisk):
    """While the file's disk does not respond, other ids are watched; then its own are too."""
    file.path.write_text("job-3\n")
    fake_disk.is_hanging = True
    watchlist, seen = Watchlist(["job-1"], file.path), []

    async def watch(added: JobIds, *_others: object) -> None:
        seen.append((round(anyio.current_time()), list(added)))

    with capture_logs() as logs:
        async with anyio.create_task_group() as group:
            group.start_soon(watchlist.run, watch)
            await anyio.sleep(100.0)
            watchlist.add(["job-2"])
            await anyio.sleep(100.0)
            hung, is_failing = len(fake_disk.hung), watchlist.is_file_failing
            fake_disk.respond()
            await anyio.sleep(10.0)
            group.cancel_scope.cancel()

    assert seen[:2] == [(READ_TIMEOUT, ["job-1"]), (100, ["job-2"])]
    assert [added for _, added in seen[2:]] == [["job-3"]]
    assert (hung, is_failing, watchlist.is_file_failing) == (1, True, False)
    assert [line["error"] for line in logs] == ["reading it takes longer than 5 s"]


@pytest.mark.parametrize("kind", ["pipe", "device"])
async def test_jobs_file_must_be_a_regular_file(file: JobsFile, kind: str):
    """A pipe would hang, and a device would never end: either is refused at once."""
    if kind == "pipe":
        os.mkfifo(file.path)
    else:
        file.path.symlink_to("/dev/zero")
    with capture_logs() as logs:
        await after(60.0, file)

    assert [line["error"] for line in logs] == ["it is not a regular file"]


async def test_jobs_file_may_be_a_link(file: JobsFile):
    """Kubernetes replaces the target of a link: the new file is read."""
    for number in (1, 2):
        target = file.path.with_name(f"v{number}")
        target.write_text(f"job-{number}\n")
        os.utime(target, (10.0, 10.0))
        link = file.path.with_name("link")
        link.symlink_to(target)
        link.rename(file.path)
        await file.refresh()

    assert list(file.job_ids) == ["job-2"]


async def test_bad_lines_are_logged_by_number(file: JobsFile):
    """A line that is no job id is logged by its number alone: it may be a misplaced secret."""
    file.path.write_text('job-1\nsk_canary key\njob-2\n"job-3"\n')
    with capture_logs() as logs:
        await file.refresh()

    assert list(file.job_ids) == ["job-1", "job-2"]
    (line,) = logs
    assert (line["lines"], line["count"], line["error"]) == ("2, 4", 2, JOB_ID_RULE)
    assert "canary" not in str(logs)


async def test_many_bad_lines_are_one_line_of_the_log(file: JobsFile):
    """A file of another kind is one warning, and no more when good lines are appended."""
    text = "not an id\n" * 100_000
    with capture_logs() as logs:
        for number in range(3):
            file.path.write_text(text + "job-1\n" * number)
            await file.refresh()

    (line,) = logs
    assert (line["lines"], line["count"]) == ("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...", 100_000)


@pytest.mark.parametrize(
    ("text", "ids", "bad"),
    [
        ("", (), []),
        ("\n\n  \n", (), []),
        ("job-1", ("job-1",), []),
        (" job-1 \r\n\tjob-2\r\n", ("job-1", "job-2"), []),
        ("# all\njob-1 # the first\n#job-2\n", ("job-1",), []),
        ("job-1\njob-1\n", ("job-1",), []),
        ("job 1\njob,2\n..\n.\n" + "x" * 257, (), [1, 2, 3, 4, 5]),
        ("x" * 256, ("x" * 256,), []),
        ("j\N{LATIN SMALL LETTER O WITH DIAERESIS}b\njob-1", ("job-1",), [1]),
    ],
)
def test_parse_lines(text: str, ids: tuple[str, ...], bad: list[int]):
    """One id a line; white space and comments do not count."""
    assert parse_lines(text.splitlines()) == (dict.fromkeys(ids), bad)


@given(st.text())
def test_parse_lines_returns_valid_ids_only(text: str):
    """Whatever stands in the file, only valid job ids are watched."""
    assert all(is_job_id(it) for it in parse_lines(text.splitlines())[0])
