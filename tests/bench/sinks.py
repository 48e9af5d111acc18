"""The cost of each kind of sink, and of many sinks: CPU time, memory, events per second."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from anyio.from_thread import start_blocking_portal

from tests.bench.events import deliver
from tests.bench.processes import FLAT_OUT, TIMEOUT_SECONDS, Server, daemon, newest
from tests.bench.race import histogram
from tests.bench.results import Chapter, Row
from tests.support.mail_server import MailServer, mail_server

JOBS: Final = 200
JOBS_OF_MANY: Final = 500
COUNTS: Final = (1, 4, 20)
"""Numbers of webhooks that get each event."""
POLL_SECONDS: Final = 0.05
URL: Final = "{http}/events"
KINDS: Final[Mapping[str, Mapping[str, str]]] = {
    "log": {},
    "webhook": {"URL": URL, "SECRET": "whsec_" + 32 * "A"},
    "slack": {"URL": URL},
    "teams": {"URL": URL},
    "discord": {"URL": URL},
    "googlechat": {"URL": URL},
    "email": {
        "URL": "smtp://127.0.0.1:{smtp}",
        "FROM": "poller@example.com",
        "TO": "ops@example.com",
    },
    "apprise": {"URL": "json://{host}/events"},
    "pagerduty": {"URL": URL, "ROUTING_KEY": 32 * "0"},
    "alertmanager": {"URL": URL, "EVENTS": "*"},
    "exec": {"COMMAND": 'sh -c "echo >>events"'},
    "file": {"PATH": "events"},
}
"""The settings of each kind. It is the only sink of its daemon."""

HOW: Final = f"""\
{JOBS:,} watched jobs end at once. Each kind is the only sink of a daemon of its own, and sends to
a receiver on loopback: the server for http, aiosmtpd for mails, `echo` as a command, a file.
Memory is resident memory, before the first event and after all of them; a library is loaded with
its sink, or for the first event. CPU time goes from the end of the jobs until the receiver has all
events: it includes reading the pages that show the ends, committing and the log, but not the
processes of commands. For several sinks, {JOBS_OF_MANY:,} jobs end at once, and each event is sent
to every webhook."""
LOAD: Final = """\
The load average of the machine was {:.0f} at the end. If that is more than its cores, it did other
work too, and the events per second are too low."""


class Cost(NamedTuple):
    """What a daemon with one sink needs: memory before and after, and CPU time of each event."""

    rest_mib: float
    used_mib: float
    cpu_ms: float


def _received(kind: str, server: Server, folder: Path, mails: MailServer) -> int:
    """Return how many events have been received."""
    match kind:
        case "email":
            return len(mails.mails)
        case "log":
            return (folder / "out").read_bytes().count(b'"event": "job.succeeded"')
        case "exec" | "file":
            path = folder / "events"
            return path.read_bytes().count(b"\n") if path.exists() else 0
    return server.count("events")


def _until_received(count: Callable[[], int], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (received := count()) < JOBS:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: {received} of {JOBS} events")
        time.sleep(POLL_SECONDS)


def cost(kind: str, mails: MailServer) -> Cost:
    """Measure one kind."""
    mails.mails.clear()
    with Server.serving(JOBS) as server, TemporaryDirectory() as name:
        folder = Path(name)
        known = {"http": server.http, "host": urlsplit(server.http).netloc, "smtp": mails.port}
        settings = {
            f"POLLER_{kind.upper()}_{setting}": text.format_map(known)
            for setting, text in KINDS[kind].items()
        }
        program = daemon(
            server, folder, newest(JOBS, JOBS), POLLER_SINKS=kind, **settings, **FLAT_OUT
        )
        with program.running(folder) as running:
            server.until("listed", 3 * JOBS)
            rest_mib, used = running.resident_mib, running.cpu_seconds
            server.end(0.0)
            _until_received(lambda: _received(kind, server, folder, mails), kind)
            cpu_ms = (running.cpu_seconds - used) / JOBS * 1_000.0
            return Cost(rest_mib, running.resident_mib, cpu_ms)


def chapter(rounds: int) -> Chapter:
    """Measure all kinds by turns, and then several webhooks."""
    costs: dict[str, list[Cost]] = {kind: [] for kind in KINDS}
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(mail_server()) as mails,
    ):
        for _ in range(rounds):
            for kind, measured in costs.items():
                measured.append(cost(kind, mails))
    rows = [row for kind, measured in costs.items() for row in _kind_rows(kind, measured)]
    rows += _count_rows()
    return Chapter("Sinks", HOW, rows, LOAD.format(os.getloadavg()[0]))


def _kind_rows(kind: str, measured: list[Cost]) -> Iterator[Row]:
    for field, unit in (
        ("rest_mib", "MiB resident at rest"),
        ("used_mib", "MiB resident after the events"),
        ("cpu_ms", "CPU ms per event"),
    ):
        values = [getattr(cost, field) for cost in measured]
        yield Row(what=f"{kind}: {unit}", figure=histogram(values, ".1f"))


def _count_rows() -> Iterator[Row]:
    for sinks in COUNTS:
        sent = deliver(sinks, JOBS_OF_MANY)
        where = f"{sinks} {'webhook' if sinks == 1 else 'webhooks'}"
        yield Row(what=f"{where}: events per second", figure=f"{sent.a_second:,.0f}")
        yield Row(what=f"{where}: CPU ms per event", figure=f"{1_000.0 / sent.a_cpu_second:.2f}")
