"""The ends of 500 jobs awaited: by the official SDK in 500 threads, and by the daemon."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench.polls import an_sdk
from tests.bench.processes import Program, Running, Server, daemon, newest
from tests.bench.results import Chapter, Row

JOBS: Final = 500
SECONDS: Final = 60.0
TARGET: Final = 30.0

HOW: Final = f"""\
{JOBS} jobs that end one by one within {SECONDS:.0f} s, over http. The SDK's `await_job_completion`
waits for each in a thread of its own; the daemon watches them by its default settings and sends
each end to a webhook and to its log. Both run at the same time, each with a server of its own. CPU
seconds count from the moment when every job was polled once."""


def chapter() -> Chapter:
    """Measure both at the same time."""
    with (
        _watched(
            lambda server, _folder: an_sdk(server, "await", str(JOBS)), "job-status", JOBS
        ) as sdk,
        _watched(_daemon, "listed", JOBS) as ours,
    ):
        began = [running.cpu_seconds for _, running in (sdk, ours)]
        for server, _ in (sdk, ours):
            server.end(SECONDS)
        ours[0].until("events", JOBS)
        sdk[1].until_ended()
        used = [
            running.cpu_seconds - start
            for (_, running), start in zip((sdk, ours), began, strict=True)
        ]
        requests = sdk[0].count("job-status"), ours[0].count("list-jobs") + ours[0].count("jobs")
    theirs, mine = used
    return Chapter(
        f"{JOBS} jobs awaited",
        HOW,
        [
            Row(what="the SDK: CPU seconds, requests", figure=f"{theirs:.2f}, {requests[0]:,}"),
            Row(what="the daemon: CPU seconds, requests", figure=f"{mine:.2f}, {requests[1]:,}"),
            Row(
                what="less CPU for the daemon",
                figure=f"{theirs / mine:.1f} x",
                to_reach=f"{TARGET:g} x",
                is_reached=theirs / mine >= TARGET,
            ),
        ],
    )


def _daemon(server: Server, folder: Path) -> Program:
    return daemon(server, folder, newest(JOBS, JOBS), POLLER_WEBHOOK_URL=f"{server.http}/events")


@contextmanager
def _watched(
    program: Callable[[Server, Path], Program], kind: str, count: int
) -> Iterator[tuple[Server, Running]]:
    """Serve, and run a program that has polled every job once."""
    with (
        Server.serving(JOBS) as server,
        TemporaryDirectory() as name,
        program(server, Path(name)).running(Path(name)) as running,
    ):
        server.until(kind, count)
        yield server, running
