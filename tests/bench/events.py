"""Events per second, from the page that shows the ends to the receiver that has them."""

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tests.bench.processes import FLAT_OUT, Server, daemon, newest
from tests.bench.race import histogram
from tests.bench.results import Chapter, Row

JOBS: Final = 4_000
TO_REACH: Final = 1_000
SINKS: Final = (1, 4)
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


def deliver(sinks: int) -> Sent:
    """Let all jobs end, and see how fast that is told."""
    names = ["webhook", *(f"webhook.n{number}" for number in range(1, sinks))]
    with Server.serving(JOBS) as server, TemporaryDirectory() as name:
        folder = Path(name)
        hooks = {}
        for it in names:
            prefix = f"POLLER_{it.upper().replace('.', '_')}"
            hooks |= {f"{prefix}_URL": f"{server.http}/events", f"{prefix}_SECRET": SECRET}
        program = daemon(
            server, folder, newest(JOBS, JOBS), POLLER_SINKS=",".join(names), **hooks, **FLAT_OUT
        )
        with program.running(folder) as running:
            server.until("listed", 3 * JOBS)
            used = running.cpu_seconds
            server.end(0.0)
            server.until("events", JOBS * sinks)
            used, told = running.cpu_seconds - used, server.counts()
    return Sent(JOBS / (told["last events"] - told["first events"]), JOBS / used)


def chapter(rounds: int) -> Chapter:
    """Measure with one sink and with four, in turns."""
    sent: dict[int, list[Sent]] = {it: [] for it in SINKS}
    for _ in range(rounds):
        for sinks in SINKS:
            sent[sinks].append(deliver(sinks))
    rows = []
    for sinks in SINKS:
        rates = [it.a_second for it in sent[sinks]]
        rows.append(
            Row(
                what=f"{sinks} {'sink' if sinks == 1 else 'sinks'}: events per second",
                figure=histogram(rates),
                to_reach=f"{TO_REACH:,}" if sinks == 1 else "",
                is_reached=median(rates) >= TO_REACH if sinks == 1 else None,
            )
        )
        figure = histogram([it.a_cpu_second for it in sent[sinks]])
        rows.append(Row(what=f"{sinks}: events per CPU second", figure=figure))
    return Chapter("Events", HOW, rows)
