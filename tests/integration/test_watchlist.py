"""The watched jobs, while the file that names them appears, changes and vanishes."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from poller.polling import jobs_file
from poller.polling.watchlist import FILE_POLL_INTERVAL, JobIds, Watchlist

pytestmark = pytest.mark.virtual(limit=3_600.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a jobs file that is not there yet."""
    return tmp_path / "jobs"


@asynccontextmanager
async def running(watchlist: Watchlist) -> AsyncIterator[list[list[str]]]:
    """Run a watchlist; yield the ids that it has passed on until then, at each change."""
    seen: list[list[str]] = []

    async def watch(added: JobIds, removed: JobIds, _again: object) -> None:
        before = seen[-1] if seen else []
        seen.append([job_id for job_id in (*before, *added) if job_id not in removed])

    async with anyio.create_task_group() as group:
        group.start_soon(watchlist.run, watch)
        await anyio.sleep(0.1)
        yield seen
        group.cancel_scope.cancel()


async def a_read() -> None:
    """Wait until the watchlist has checked its file once more."""
    await anyio.sleep(FILE_POLL_INTERVAL + 0.1)


async def test_watchlist_has_the_ids_of_the_settings():
    """The ids of the settings are watched at once, in order, each once."""
    async with running(Watchlist(["job-2", "job-1", "job-2"])) as seen:
        await anyio.sleep(600.0)

    assert seen == [["job-2", "job-1"]]


async def test_watchlist_passes_on_an_empty_list():
    """An empty list is passed on too: the watcher must know that there is nothing."""
    async with running(Watchlist([])) as seen:
        pass

    assert seen == [[]]


async def test_jobs_file_is_read_at_once(path):
    """The ids of the file come after those of the settings, without repetition."""
    path.write_text("job-3\njob-1\n")
    async with running(Watchlist(["job-1", "job-2"], path)) as seen:
        pass

    assert seen == [["job-1", "job-2", "job-3"]]


async def test_jobs_file_that_appears_is_read(path):
    """A file that is not there yet is logged once, and read when it comes."""
    with capture_logs() as logs:
        async with running(Watchlist(["job-1"], path)) as seen:
            await anyio.sleep(60.0)
            path.write_text("job-2\n")
            await a_read()

    assert seen == [["job-1"], ["job-1", "job-2"]]
    assert [(it["event"], it["error"]) for it in logs] == [
        ("jobs_file.unreadable", "No such file or directory")
    ]


async def test_jobs_file_that_changes_is_read(path):
    """A changed file adds jobs and removes jobs."""
    path.write_text("job-1\njob-2\n")
    async with running(Watchlist([], path)) as seen:
        path.write_text("job-2\njob-3\njob-4\n")
        await a_read()

    assert seen == [["job-1", "job-2"], ["job-2", "job-3", "job-4"]]


async def test_jobs_file_of_the_same_size_and_time_is_read(path):
    """A file that replaces another is read, however alike the two look."""
    path.write_text("job-1\n")
    when = path.stat().st_mtime_ns
    async with running(Watchlist([], path)) as seen:
        other = path.with_name("other")
        other.write_text("job-2\n")
        os.utime(other, ns=(when, when))
        other.rename(path)
        await a_read()

    assert seen == [["job-1"], ["job-2"]]


async def test_jobs_file_that_does_not_change_is_not_read(path, monkeypatch):
    """A file that does not change is not read again."""
    path.write_text("job-1\n")
    reads: list[Path] = []
    read = jobs_file.read_regular
    monkeypatch.setattr(jobs_file, "read_regular", lambda path: (reads.append(path), read(path))[1])
    async with running(Watchlist([], path)) as seen:
        await anyio.sleep(60.0)

    assert (seen, reads) == ([["job-1"]], [path])


async def test_jobs_file_with_new_comments_changes_nothing(path):
    """A change of comments alone changes nothing."""
    path.write_text("job-1\n")
    async with running(Watchlist([], path)) as seen:
        path.write_text("# the only one\njob-1\n")
        await a_read()

    assert seen == [["job-1"]]


async def test_jobs_file_that_vanishes_keeps_its_ids(path):
    """While the file cannot be read, its last ids stay watched; every loss is logged once."""
    path.write_text("job-1\n")
    with capture_logs() as logs:
        async with running(Watchlist([], path)) as seen:
            for _ in range(2):
                path.unlink()
                await anyio.sleep(60.0)
                path.write_text("job-1\n")
                await a_read()

    assert seen == [["job-1"]]
    assert [it["event"] for it in logs] == ["jobs_file.unreadable"] * 2


async def test_jobs_file_that_comes_back_unchanged(path):
    """A file that comes back unchanged is fine again: its next loss is logged as well."""
    path.write_text("job-1\n")
    away = path.with_name("away")
    with capture_logs() as logs:
        async with running(Watchlist([], path)) as seen:
            for _ in range(2):
                path.rename(away)
                await a_read()
                away.rename(path)
                await a_read()

    assert seen == [["job-1"]]
    assert [it["event"] for it in logs] == ["jobs_file.unreadable"] * 2


async def test_jobs_file_that_is_a_folder_is_logged(path):
    """A file that cannot be read for another reason is logged with that reason."""
    path.mkdir()
    with capture_logs() as logs:
        async with running(Watchlist(["job-1"], path)) as seen:
            await anyio.sleep(60.0)

    assert seen == [["job-1"]]
    assert [it["error"] for it in logs] == ["Is a directory"]


async def test_reload_reads_the_jobs_file_at_once(path):
    """A reload reads the file now, and not at the next check."""
    path.write_text("job-1\n")
    watchlist = Watchlist([], path)
    async with running(watchlist) as seen:
        path.write_text("job-1\njob-2\n")
        watchlist.reload()
        await anyio.sleep(0.1)

    assert seen == [["job-1"], ["job-1", "job-2"]]
    assert anyio.current_time() < FILE_POLL_INTERVAL


async def test_reload_reads_an_unchanged_jobs_file(path):
    """A reload reads the file even when it looks as before."""
    path.write_text("job-1\n")
    found = path.stat()
    watchlist = Watchlist([], path)
    async with running(watchlist) as seen:
        path.write_text("job-2\n")
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        await a_read()
        before = list(seen)
        watchlist.reload()
        await anyio.sleep(0.1)

    assert before == [["job-1"]]
    assert seen == [["job-1"], ["job-2"]]


async def test_reload_without_a_jobs_file_changes_nothing():
    """A reload of a list that is only in the settings changes nothing."""
    watchlist = Watchlist(["job-1"])
    async with running(watchlist) as seen:
        watchlist.reload()
        await anyio.sleep(0.1)

    assert seen == [["job-1"]]


async def test_reload_during_a_change_is_not_lost(path):
    """A reload that comes while a change is being passed on is not lost."""
    path.write_text("job-1\n")
    watchlist = Watchlist([], path)
    seen: list[list[str]] = []

    async def watch(added: JobIds, *_others: object) -> None:
        seen.append(list(added))
        if len(seen) == 1:
            path.write_text("job-1\njob-2\n")
            watchlist.reload()

    async with anyio.create_task_group() as group:
        group.start_soon(watchlist.run, watch)
        await anyio.sleep(0.1)
        group.cancel_scope.cancel()

    assert seen == [["job-1"], ["job-2"]]


@pytest.mark.parametrize("raw", [b"\xef\xbb\xbfjob-1\njob-2\n", b"job-1\n\xff\xfe\njob-2\n"])
async def test_jobs_file_with_odd_bytes_is_read(path, raw: bytes):
    """A byte order mark, and bytes that are no UTF-8, cost no other line."""
    path.write_bytes(raw)
    async with running(Watchlist([], path)) as seen:
        pass

    assert seen == [["job-1", "job-2"]]
