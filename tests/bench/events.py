"""Events per second, from the page that shows the ends to the receiver."""

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tests.bench.processes import FLAT_OUT, Server, daemon, newest
from tests.bench.race import histogram
from tests.bench.results import Chapter, Row

JOBS: Final = 4_000
TARGETS: Final = {1: 1_500, 4: 700}
"""Events per second, by the number of sinks."""
SECRET: Final = "whsec_" + 32 * "A"

HOW: Final = f"""\
{JOBS:,} watched jobs end at once. SQLite commits with `synchronous=FULL`; each event is signed and
sent to every webhook, whose receiver is the server, over http on loopback. The time goes from the
first event that a receiver gets to the last: in it the daemon also reads the pages that show the
ends."""


class Sent(NamedTuple):
    """Events per second, and per CPU second of the daemon."""

    a_second: float
    a_cpu_second: float


def deliver(sinks: int, jobs: int = JOBS) -> Sent:
    """Measure how fast the ends of so many jobs are delivered."""
    names = ["webhook", *(f"webhook.n{number}" for number in range(1, sinks))]
    with Server.serving(jobs) as server, TemporaryDirectory() as name:
        folder = Path(name)
        hooks = {}
        for sink in names:
            prefix = f"POLLER_{sink.upper().replace('.', '_')}"
            hooks |= {f"{prefix}_URL": f"{server.http}/events", f"{prefix}_SECRET": SECRET}
        program = daemon(
            server, folder, newest(jobs, jobs), POLLER_SINKS=",".join(names), **hooks, **FLAT_OUT
        )
        with program.running(folder) as running:
            server.until("listed", 3 * jobs)
            used = running.cpu_seconds
            server.end(0.0)
            server.until("events", jobs * sinks)
            used, counts = running.cpu_seconds - used, server.counts()
    return Sent(jobs / (counts["last events"] - counts["first events"]), jobs / used)


def chapter(rounds: int) -> Chapter:
    """Measure one sink and four sinks by turns."""
    sent: dict[int, list[Sent]] = {sinks: [] for sinks in TARGETS}
    for _ in range(rounds):
        for sinks in TARGETS:
            sent[sinks].append(deliver(sinks))
    rows = []
    for sinks, least in TARGETS.items():
        rates = [rate.a_second for rate in sent[sinks]]
        where = f"{sinks} {'sink' if sinks == 1 else 'sinks'}"
        rows.append(
            Row(
                what=f"{where}: events per second",
                figure=histogram(rates),
                to_reach=f"{least:,}",
                is_reached=median(rates) >= least,
            )
        )
        figure = histogram([rate.a_cpu_second for rate in sent[sinks]])
        rows.append(Row(what=f"{where}: events per CPU second", figure=figure))
    return Chapter("Events", HOW, rows)
