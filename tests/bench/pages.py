"""Jobs observed through pages: fleets of all sizes as fast as possible, and a large one at rest."""

from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench import profiled
from tests.bench.processes import FLAT_OUT, Program, Server, daemon, newest
from tests.bench.race import Race, Runner, histogram, on_one_core, ratios
from tests.bench.results import Chapter, Row

JOBS: Final = 100_000
FLEETS: Final = (10, 100, 1_000, JOBS)
TARGET: Final = 100_000
LINEAR: Final = 2.0
DEMAND: Final = 200_000
"""Jobs that a fleet polls in a second: more than is possible."""

HOW: Final = f"""\
The newest of {JOBS:,} jobs that run, watched as fast as it goes, by pages as the daemon chooses
them. Counted are the jobs on the pages that were sent."""


def a_fleet(server: Server, folder: Path, *, watched: int, jobs: int) -> Program:
    """Return a daemon that watches the newest of so many jobs as fast as possible.

    Each job is due again before all can have been polled, but not before most have been.
    """
    interval = f"{max(watched / DEMAND, 0.001):.3f}"
    pace = {"POLLER_MIN_INTERVAL": interval, "POLLER_MAX_INTERVAL": interval}
    return daemon(server, folder, newest(jobs, watched), **FLAT_OUT | pace)


def runner(server: Server, watched: int, jobs: int = JOBS) -> Runner:
    """Watch the newest of so many jobs; count the jobs on pages, once each was on one.

    Many are polled again before all have been: the unknown part of the list is read slowly.
    """
    fleet = partial(a_fleet, server, watched=watched, jobs=jobs)
    return Runner(fleet, "listed", 6 * watched + 10_000)


def chapter(race: Race) -> Chapter:
    """Compare fleets of all sizes."""
    with on_one_core(), Server.serving(JOBS) as server:
        observed = race.run(server, {str(watched): runner(server, watched) for watched in FLEETS})
        usual = partial(a_fleet, server, watched=FLEETS[2], jobs=JOBS)
        more = profiled.describe("the CPU of the daemon's pages", usual)
    rows = [
        Row(
            what=f"{watched:,} watched jobs: observed per CPU second",
            figure=histogram(observed[str(watched)]),
            to_reach=f"{TARGET:,}" if watched >= 100 else "",
            is_reached=median(observed[str(watched)]) >= TARGET if watched >= 100 else None,
        )
        for watched in FLEETS
    ]
    growth = ratios(observed["100"], observed[str(JOBS)])
    rows.append(
        Row(
            what=f"CPU for a page of {JOBS:,} jobs, against one of 100",
            figure=f"{histogram(growth, '.2f')} x",
            to_reach=f"at most {LINEAR:g} x",
            is_reached=median(growth) <= LINEAR,
        )
    )
    return Chapter("Jobs observed through pages", HOW, rows, more)
