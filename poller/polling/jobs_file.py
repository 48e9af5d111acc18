"""The file that names jobs to watch: read whenever it changes, with a time limit."""

import errno
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import structlog

from poller.core.jobs import JOB_ID_RULE
from poller.polling.jobs_text import decode_lines, parse_lines
from poller.runtime.bounded_read import READ_TIMEOUT, BoundedRead
from poller.runtime.files import read_regular

STILL_SECONDS: Final = 60.0
"""Seconds without a change after which a last line without a line break is complete."""
MAX_LOGGED_LINES: Final = 10
NO_SUCH_FILE: Final = os.strerror(errno.ENOENT)

Version = tuple[int, int, int]
log = structlog.get_logger()


class Content(NamedTuple):
    """The content of one version of the file. `is_whole`: its last line counts too."""

    version: Version
    job_ids: dict[str, None]
    bad_lines: list[int]
    is_whole: bool


@dataclass(slots=True)
class JobsFile:
    """The ids in a file. While it cannot be read, and `error` says why, the last ones stay.

    A writer with a buffer may leave half an id at the end of the file for a while: the last line
    counts when it has a line break, or when the file has not changed for a minute.
    """

    path: Path
    job_ids: dict[str, None] = field(default_factory=dict)
    error: str = ""
    _content: Content | None = None
    _changed_at: float = 0.0
    _is_still: bool = False
    _logged_lines: list[int] = field(default_factory=list)
    _read: BoundedRead[Content | None] = field(init=False)

    def __post_init__(self) -> None:
        """Make the read, of which only one runs at a time."""
        self._read = BoundedRead(self._load)

    @property
    def is_read(self) -> bool:
        """Return whether all ids of the file are known."""
        return self._content is not None and self._content.is_whole

    def forget(self) -> None:
        """Read the file again, changed or not."""
        self._content = None

    async def refresh(self) -> None:
        """Read the file if it has changed."""
        self._is_still = anyio.current_time() - self._changed_at >= STILL_SECONDS
        try:
            content = await self._read()
        except TimeoutError:
            self._report(f"reading it takes longer than {READ_TIMEOUT:g} s")
        except OSError as error:
            self._report(error.strerror or type(error).__name__)
        else:
            self._report("")
            if content:
                self._apply(content)

    def _apply(self, content: Content) -> None:
        if self._content is None or content.version != self._content.version:
            self._changed_at = anyio.current_time()
        self._content, self.job_ids = content, content.job_ids
        lines, logged, self._logged_lines = content.bad_lines, self._logged_lines, content.bad_lines
        if lines and lines != logged:
            shown = ", ".join(map(str, lines[:MAX_LOGGED_LINES]))
            log.warning(
                "jobs_file.bad_lines",
                file=str(self.path),
                lines=shown + (", ..." if len(lines) > MAX_LOGGED_LINES else ""),
                count=len(lines),
                error=JOB_ID_RULE,
            )

    def _report(self, error: str) -> None:
        if error and error != self.error:
            log.warning("jobs_file.unreadable", file=str(self.path), error=error)
        self.error = error

    def _load(self) -> Content | None:
        """Return the content, in a thread of its own; None when there is nothing new."""
        last = self._content
        is_due = last is None or (self._is_still and not last.is_whole)
        if last and not is_due and _version(self.path.stat()) == last.version:
            return None
        raw, status = read_regular(self.path)
        version = _version(status)
        is_old = time.time() - status.st_mtime >= STILL_SECONDS
        is_still = self._is_still and last is not None and version == last.version
        is_whole = is_old or is_still or raw[-1:] in {b"", b"\n", b"\r"}
        job_ids, bad_lines = parse_lines(decode_lines(raw if is_whole else raw[: _end(raw)]))
        return Content(version, job_ids, bad_lines, is_whole)


def _version(status: os.stat_result) -> Version:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _end(raw: bytes) -> int:
    """Return where the last line begins."""
    return max(raw.rfind(b"\n"), raw.rfind(b"\r")) + 1
