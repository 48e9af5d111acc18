"""Run all benchmarks, or some chapters: python -m tests.bench [--rounds N] [CHAPTER...].

All chapters together write RESULTS.md; some replace their part of it. All take about half an hour,
on a machine that does nothing else.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Final

from tests.bench import (
    events,
    faults,
    forecast,
    html,
    lag,
    pages,
    polls,
    results,
    schedules,
    sinks,
    size,
    waits,
    weight,
)
from tests.bench.race import Race
from tests.bench.results import Chapter

ROUNDS: Final = 2

CHAPTERS: Final[dict[str, Callable[[int], Chapter]]] = {
    "polls": lambda rounds: polls.chapter(Race(rounds=rounds)),
    "waits": lambda _rounds: waits.chapter(),
    "pages": lambda rounds: pages.chapter(Race(rounds=1, turns=4 * rounds)),
    "events": events.chapter,
    "sinks": sinks.chapter,
    "weight": weight.chapter,
    "size": lambda _rounds: size.chapter(),
    "html": lambda _rounds: html.chapter(),
    "lag": lambda _rounds: lag.chapter(),
    "faults": lambda _rounds: faults.chapter(),
    "forecast": lambda _rounds: forecast.chapter(),
    "schedules": lambda _rounds: schedules.chapter(),
}


def main() -> None:
    """Run the chapters of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each is started")
    parser.add_argument("chapters", nargs="*", choices=[*CHAPTERS, []], metavar="chapter")
    arguments = parser.parse_args()
    command = " ".join(["python -m tests.bench", *sys.argv[1:]])
    if not arguments.chapters:
        results.start(command)
    for name in arguments.chapters or CHAPTERS:
        chapter = CHAPTERS[name](arguments.rounds)
        print(chapter, flush=True)  # noqa: T201 - the figures
        results.write(chapter)


if __name__ == "__main__":
    main()
