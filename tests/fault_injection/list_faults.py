"""The faults of a job list, each by its name."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

from tests.fault_injection.unreliable_list import ODD_DATES, RIGHT_ROW, Cursors, Row

if TYPE_CHECKING:
    from tests.fault_injection.list_world import ListWorld

RowFault = Callable[[Random, Row, float, bool], Row]
"""Returns the row of a job that is created at a time, and that is named or is to be discovered."""

NEVER: Final = float("inf")
LATE_SECONDS: Final = 540.0
VERY_LATE_SECONDS: Final = 7_200.0
SEEN_SECONDS: Final = 600.0
"""Seconds after which a discovered job has been seen in the list."""


def _lag(*seconds: float) -> "Callable[[ListWorld], None]":
    def begin(world: "ListWorld") -> None:
        world.site.api.listing.lag = world.random.choice(seconds)

    return begin


def _cursors(cursors: Cursors) -> "Callable[[ListWorld], None]":
    def begin(world: "ListWorld") -> None:
        world.site.api.listing.cursors = cursors
        world.is_discovering, world.has_pages = True, world.random.random() < 0.5

    return begin


def _rows(fault: RowFault, *shares: float) -> "Callable[[ListWorld], None]":
    """Apply a fault to a random share of the rows."""

    def begin(world: "ListWorld") -> None:
        share = world.random.choice(shares)

        def sometimes(random: Random, row: Row, now: float, is_named: bool) -> Row:
            return fault(random, row, now, is_named) if random.random() < share else row

        world.row_faults.append(sometimes)

    return begin


def _stick(_random: Random, row: Row, _now: float, _is_named: bool) -> Row:
    return replace(row, is_stuck=True)


def _come_late(random: Random, row: Row, now: float, _is_named: bool) -> Row:
    return replace(
        row, listed=now + random.uniform(0.0, random.choice([LATE_SECONDS, VERY_LATE_SECONDS]))
    )


def _displace(random: Random, row: Row, _now: float, _is_named: bool) -> Row:
    return replace(row, displaced=random.uniform(-LATE_SECONDS, LATE_SECONDS))


def _misdate(random: Random, row: Row, _now: float, _is_named: bool) -> Row:
    return replace(row, created=random.choice(ODD_DATES))


def _garble(random: Random, row: Row, now: float, is_named: bool) -> Row:
    return replace(row, readable=NEVER if is_named else now + random.uniform(0.0, LATE_SECONDS))


def _leave(random: Random, row: Row, now: float, is_named: bool) -> Row:
    lateness = max(row.visible_at - now, 0.0)
    seen = now if is_named else now + 2 * lateness + SEEN_SECONDS
    return replace(row, unlisted=seen + random.choice([0.0, 100.0, 1_000.0]))


def _misdate_all(world: "ListWorld") -> None:
    """Have odd dates in rows of jobs that had ended before the start, too."""
    world.old_dates = ("right", *ODD_DATES)
    _rows(_misdate, 0.1, 0.5)(world)


ROW_FAULTS: Final[tuple[RowFault, ...]] = (_stick, _come_late, _displace, _misdate, _garble)
FAULTS: "Final[dict[str, Callable[[ListWorld], None]]]" = {
    "lags-by-seconds": _lag(2.0, 20.0, 120.0),
    "lags-by-hours": _lag(3_600.0, 20_000.0),
    "rows-stuck": _rows(_stick, 0.2, 1.0),
    "rows-late": _rows(_come_late, 0.3, 1.0),
    "rows-out-of-order": _rows(_displace, 0.3, 1.0),
    "odd-dates": _misdate_all,
    "rows-unreadable": _rows(_garble, 0.3, 1.0),
    "jobs-leave": _rows(_leave, 0.5, 1.0),
    "cursors-loop": _cursors("loop"),
    "empty-pages-without-end": _cursors("empty"),
    "repeats-without-end": _cursors("repeat"),
}


def random_row(random: Random, now: float, *, is_named: bool) -> Row:
    """Return the row of a new job, with up to two faults."""
    row = RIGHT_ROW
    for fault in random.sample(ROW_FAULTS, random.choice([0, 0, 1, 2])):
        row = fault(random, row, now, is_named)
    return row
