"""Reads in threads of their own."""

import threading
from pathlib import Path
from typing import Any

import pytest

from poller.polling import jobs_file
from poller.polling.jobs_file import JobsFile, parse_lines
from poller.runtime.bounded_read import BoundedRead


async def test_read_without_a_thread_fails_this_time(monkeypatch: pytest.MonkeyPatch):
    """Where no thread can be started the read has an error, and the next one is begun anew."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    read = BoundedRead(threading.get_ident)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="start new thread"):
            await read()

    assert await read() != threading.get_ident()


async def test_jobs_file_is_parsed_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file of a million lines does not hold up the event loop while it is parsed."""
    file = JobsFile(tmp_path / "jobs")
    threads: list[threading.Thread] = []

    def parse(lines: list[str]) -> Any:
        threads.append(threading.current_thread())
        return parse_lines(lines)

    monkeypatch.setattr(jobs_file, "parse_lines", parse)
    file.path.write_text("job-1\n")
    await file.refresh()

    assert threading.current_thread() not in threads
    assert len(threads) == 1
