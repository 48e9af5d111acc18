"""The page for people, with many jobs: its first byte, its size, and the event loop meanwhile."""

import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlsplit

from tests.bench.processes import API_SOCKET, Server, daemon, newest
from tests.bench.results import Chapter, Row
from tests.bench.size import UnixConnection, probing, started
from tests.support.large_database import Contents, make_large_database

ACTIVE: Final = 1_000
ENDED: Final = 100_000
REQUESTS: Final = 20
MAX_FIRST_BYTE_MS: Final = 100.0
MAX_KIB: Final = 200.0
MAX_STALL_MS: Final = 50.0
SETTLING_SECONDS: Final = 20.0
"""Longer than the daemon takes to poll all jobs once."""
PATHS: Final = ("/", "/?name=*review*", "/jobs/job-00000001", "/dead-letters")

HOW: Final = f"""\
A daemon that watches {ACTIVE:,} jobs that run, with {ENDED:,} jobs that ended in 30 days.
Each page is requested {REQUESTS} times. The first byte is the median time until the headers of the
response have arrived. The longest time for `/livez`, which is requested all the time beside that,
shows how long the event loop was busy with something else."""


def request(connection: UnixConnection, path: str) -> tuple[float, int]:
    """Return the seconds until the headers of a response, and the bytes of its body."""
    began = time.monotonic()
    connection.request("GET", path)
    with connection.getresponse() as response:
        seconds = time.monotonic() - began
        assert response.status == 200, (path, response.status)
        return seconds, len(response.read())


def chapter() -> Chapter:
    """Measure every page of one daemon."""
    rows = []
    with Server.serving(ACTIVE) as server, TemporaryDirectory() as name:
        folder = Path(name)
        program = daemon(server, folder, newest(ACTIVE, ACTIVE))
        path, deployment = Path(program.variables["POLLER_STORE"]), urlsplit(server.http).netloc
        make_large_database(
            path, Contents(jobs=ENDED, delivered=ENDED, job_days=30.0), deployment=deployment
        )
        with started(program, folder), closing(UnixConnection(folder / API_SOCKET)) as connection:
            time.sleep(SETTLING_SECONDS)
            for page in PATHS:
                with probing(folder / API_SOCKET) as stalls:
                    responses = [request(connection, page) for _ in range(REQUESTS)]
                seconds = sorted(first for first, _ in responses)
                rows += [
                    _row(
                        f"`{page}`: ms to the first byte",
                        1e3 * seconds[REQUESTS // 2],
                        MAX_FIRST_BYTE_MS,
                    ),
                    _row(f"`{page}`: KiB", max(size for _, size in responses) / 1024, MAX_KIB),
                    _row(f"`{page}`: longest `/livez`, ms", 1e3 * max(stalls), MAX_STALL_MS),
                ]
    return Chapter("The page", HOW, rows)


def _row(what: str, figure: float, most: float) -> Row:
    reached = figure <= most
    return Row(what=what, figure=f"{figure:.0f}", to_reach=f"at most {most:g}", is_reached=reached)
