"""Polls per CPU second: the daemon, a bare loop, and other programs in use today.

Each requests one job at a time, again and again; no job ever changes.
"""

import json
import sys
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench import profiled, venvs
from tests.bench.processes import BENCH, FLAT_OUT, KEY, Program, Server, daemon, newest
from tests.bench.race import Race, Runner, histogram, on_one_core, ratios
from tests.bench.results import Chapter, Row

JOBS: Final = 500
CONCURRENCIES: Final = (1, 32, 256)
USUAL: Final = 32
ALONE: Final = ("-P",)
"""Keeps modules of this folder, such as `html`, from hiding those of Python."""
VARIANTS: Final = ("status", "json", "bytes")
"""Bare loops. The first is the best that parses the status."""

HOW: Final = f"""\
{JOBS} jobs that run, one GET a poll (`POLLER_LIST_PAGES=off`), as fast as it goes. The server is
a process of its own (`server.py`); client and server share one core; the clients take turns of
0.6 s (`race.py`). The bare loop is `bare.py`. The SDK's `get_job_status` runs in {USUAL} threads
(`sdk.py`). Of Airflow {USUAL} `OpenAIBatchTrigger`s run in one asyncio loop with a `poll_interval`
of 0 and logging at WARNING, without supervisor, database and heartbeat (`triggers.py`)."""


def a_daemon(server: Server, folder: Path, *, scheme: str, concurrency: int) -> Program:
    """Return a daemon that polls as fast as possible."""
    return daemon(
        server,
        folder,
        newest(JOBS, JOBS),
        SUTRO_API_URL=server.url(scheme),
        POLLER_LIST_PAGES="off",
        POLLER_CONCURRENCY=str(concurrency),
        **FLAT_OUT,
    )


def a_bare_loop(
    server: Server, _folder: Path, *, scheme: str, concurrency: int, variant: str = VARIANTS[0]
) -> Program:
    """Return a bare loop."""
    numbers = (str(concurrency), str(JOBS))
    script = (sys.executable, *ALONE, str(BENCH / "bare.py"), variant)
    return Program((*script, server.url(scheme), server.ca_file, *numbers), {})


def an_sdk(server: Server, *words: str, scheme: str = "http") -> Program:
    """Return the official SDK, which would check for its newest version at the start."""
    variables = {
        "SUTRO_API_URL": server.url(scheme),
        "SUTRO_API_KEY": KEY,
        "REQUESTS_CA_BUNDLE": server.ca_file,
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
    }
    script = (venvs.python_with(venvs.SDK), *ALONE, str(BENCH / "sdk.py"))
    return Program((*script, *words), variables)


def a_triggerer(server: Server, folder: Path) -> Program:
    """Return a loop of Airflow's triggers."""
    connection = {"conn_type": "openai", "password": KEY, "host": f"{server.http}/v1"}
    variables = {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(connection),
    }
    script = (venvs.python_with(venvs.AIRFLOW), *ALONE, str(BENCH / "triggers.py"))
    return Program((*script, str(USUAL)), variables)


def ours(server: Server, scheme: str, concurrency: int, *variants: str) -> dict[str, Runner]:
    """Return the daemon and bare loops to compare."""
    options = {"scheme": scheme, "concurrency": concurrency}
    runners = {"daemon": Runner(partial(a_daemon, server, **options), "jobs", 4 * JOBS)}
    for variant in variants or VARIANTS[:1]:
        loop = partial(a_bare_loop, server, **options, variant=variant)
        runners[variant] = Runner(loop, "jobs", 4 * JOBS)
    return runners


def theirs(server: Server, scheme: str) -> dict[str, Runner]:
    """Return the other programs."""
    sdk = an_sdk(server, "poll", str(USUAL), scheme=scheme)
    runners = {"SDK": Runner(lambda _folder: sdk, "job-status", 200)}
    if scheme == "http":
        runners["Airflow"] = Runner(partial(a_triggerer, server), "batches", 500)
    return runners


def chapter(race: Race) -> Chapter:
    """Measure all programs."""
    rows: list[Row] = []
    with on_one_core(), Server.serving(JOBS) as server:
        for concurrency in CONCURRENCIES:
            variants = VARIANTS if concurrency == USUAL else ()
            runners = ours(server, "http", concurrency, *variants)
            if concurrency == USUAL:
                runners |= theirs(server, "http")
            rows += _rows(race.run(server, runners), f"http, concurrency {concurrency}")
        runners = ours(server, "https", USUAL) | theirs(server, "https")
        rows += _rows(race.run(server, runners), f"TLS, concurrency {USUAL}")
        usual = partial(a_daemon, server, scheme="http", concurrency=USUAL)
        more = profiled.describe("the CPU of the daemon's polls", usual)
    return Chapter("Polls per CPU second", HOW, rows, more)


TARGETS: Final[dict[tuple[str, str], float]] = {
    ("http, concurrency 32", "status"): 0.65,
    ("http, concurrency 32", "SDK"): 10.0,
    ("http, concurrency 32", "Airflow"): 7.0,
    ("TLS, concurrency 32", "SDK"): 18.0,
}
NAMES: Final = {
    "daemon": "the daemon",
    "status": "bare loop",
    "json": "bare loop with `json.loads`",
    "bytes": "bare loop that parses nothing",
    "SDK": "the SDK",
    "Airflow": "Airflow's triggers",
}
PEERS: Final = ("status", "SDK", "Airflow")


def _rows(results: dict[str, list[float]], where: str) -> list[Row]:
    return [
        *(
            Row(what=f"{NAMES[name]}, {where}: polls per CPU second", figure=histogram(polls))
            for name, polls in results.items()
        ),
        *(
            _against(name, ratios(results["daemon"], polls), where)
            for name, polls in results.items()
            if name in PEERS
        ),
    ]


def _against(name: str, times: list[float], where: str) -> Row:
    least = TARGETS.get((where, name))
    return Row(
        what=f"the daemon against {NAMES[name]}, {where}",
        figure=f"{histogram(times, '.2f')} x",
        to_reach=f"{least:g} x" if least else "",
        is_reached=median(times) >= least if least else None,
    )
