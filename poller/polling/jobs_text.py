"""The format of the jobs file: one job ID per line, with `#` for comments."""

from collections.abc import Iterable
from io import BytesIO, TextIOWrapper
from pathlib import Path

from poller.core.jobs import is_job_id
from poller.runtime.files import read_regular


def read_ids(path: Path) -> tuple[tuple[str, ...], list[int]]:
    """Return the ids in a file, and the numbers of its bad lines. Raises OSError."""
    job_ids, bad_lines = parse_lines(decode_lines(read_regular(path)[0]))
    return tuple(job_ids), bad_lines


def decode_lines(raw: bytes) -> Iterable[str]:
    """Return the lines one by one: a million at once would hold up other threads."""
    return TextIOWrapper(BytesIO(raw), encoding="utf-8-sig", errors="replace")


def parse_lines(lines: Iterable[str]) -> tuple[dict[str, None], list[int]]:
    """Return the ids of lines, with `#` for comments, and the numbers of the bad lines."""
    job_ids: dict[str, None] = {}
    bad_lines: list[int] = []
    for number, line in enumerate(lines, start=1):
        job_id = line.partition("#")[0].strip()
        if is_job_id(job_id):
            job_ids[job_id] = None
        elif job_id:
            bad_lines.append(number)
    return job_ids, bad_lines
