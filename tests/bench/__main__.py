"""Run all benchmarks, or some chapters: python -m tests.bench [--rounds N] [CHAPTER...].

All chapters together write RESULTS.md; some are only printed. All take about twenty minutes,
on a machine that does nothing else.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Final

from tests.bench import events, fleet, pages, polls, schedules, size, waits, weight
from tests.bench.race import Race
from tests.bench.results import Chapter, write

ROUNDS: Final = 2

CHAPTERS: Final[dict[str, Callable[[int], Chapter]]] = {
    "polls": lambda rounds: polls.chapter(Race(rounds=rounds)),
    "waits": lambda _rounds: waits.chapter(),
    "pages": lambda rounds: pages.chapter(Race(rounds=1, turns=4 * rounds)),
    "events": events.chapter,
    "weight": weight.chapter,
    "fleet": lambda _rounds: fleet.chapter(),
    "size": lambda _rounds: size.chapter(),
    "schedules": lambda _rounds: schedules.chapter(),
}


def main() -> None:
    """Run the chapters of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each is started")
    parser.add_argument("chapters", nargs="*", choices=[*CHAPTERS, []], metavar="chapter")
    arguments = parser.parse_args()
    wanted = arguments.chapters or list(CHAPTERS)
    chapters = []
    for name in wanted:
        chapters.append(CHAPTERS[name](arguments.rounds))
        print(chapters[-1], flush=True)  # noqa: T201 - the figures
    if not arguments.chapters:
        write(chapters, " ".join(["python -m tests.bench", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
