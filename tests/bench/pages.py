"""Jobs observed through pages: by fleets of all sizes flat out, and by a large one at rest."""

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
TO_REACH: Final = 100_000
LINEAR: Final = 2.0
DEMAND: Final = 200_000
"""Jobs that a fleet wants to be seen in a second: more than can be."""

HOW: Final = f"""\
The newest of {JOBS:,} jobs that run, watched as fast as it goes, by pages as the daemon chooses
them. Counted are the jobs on the pages that were sent."""


def a_fleet(server: Server, folder: Path, *, watched: int, jobs: int) -> Program:
    """Give a daemon that watches the newest of so many jobs flat out.

    Each is to be seen again before all can have been, but not before most have been.
    """
    interval = f"{max(watched / DEMAND, 0.001):.3f}"
    pace = {"POLLER_MIN_INTERVAL": interval, "POLLER_MAX_INTERVAL": interval}
    return daemon(server, folder, newest(jobs, watched), **FLAT_OUT | pace)


def runner(server: Server, watched: int, jobs: int = JOBS) -> Runner:
    """Watch the newest of so many jobs, and count those that are seen, once each has been.

    Many are seen again before all have been: the unknown part of the list is read with restraint.
    """
    fleet = partial(a_fleet, server, watched=watched, jobs=jobs)
    return Runner(fleet, "listed", 6 * watched + 10_000)


def chapter(race: Race) -> Chapter:
    """Measure fleets of all sizes against each other."""
    with on_one_core(), Server.serving(JOBS) as server:
        seen = race.run(server, {str(it): runner(server, it) for it in FLEETS})
        usual = partial(a_fleet, server, watched=FLEETS[2], jobs=JOBS)
        more = profiled.told("the CPU of the daemon's pages", usual)
    rows = [
        Row(
            what=f"{watched:,} watched jobs: seen per CPU second",
            figure=histogram(seen[str(watched)]),
            to_reach=f"{TO_REACH:,}" if watched >= 100 else "",
            is_reached=median(seen[str(watched)]) >= TO_REACH if watched >= 100 else None,
        )
        for watched in FLEETS
    ]
    growth = ratios(seen["100"], seen[str(JOBS)])
    rows.append(
        Row(
            what=f"CPU for a page of {JOBS:,} jobs, against one of 100",
            figure=f"{histogram(growth, '.2f')} x",
            to_reach=f"at most {LINEAR:g} x",
            is_reached=median(growth) <= LINEAR,
        )
    )
    return Chapter("Jobs seen through pages", HOW, rows, more)
