"""Time zones of the process, by rules that need no files."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

NEW_YORK: Final = "EST5EDT,M3.2.0,M11.1.0"
"""America/New_York: 2026 has a day of 23 hours on March 8, and one of 25 on November 1."""
HAVANA: Final = "CST5CDT,M3.2.0/0,M11.1.0/1"
"""Clocks that go from 0:00 to 1:00, so that a day begins at 1:00."""
AUCKLAND: Final = "NZST-12NZDT,M9.5.0,M4.1.0/3"
KATHMANDU: Final = "<+0545>-5:45"
ZONES: Final = ("UTC0", NEW_YORK, HAVANA, AUCKLAND, KATHMANDU)


@contextmanager
def local_zone(zone: str) -> Iterator[None]:
    """Have a time zone in the block, as if TZ had been set at the start of the process."""
    before = os.environ.get("TZ")
    _set_zone(zone)
    try:
        yield
    finally:
        _set_zone(before)


def _set_zone(zone: str | None) -> None:
    os.environ.pop("TZ", None)
    if zone is not None:
        os.environ["TZ"] = zone
    time.tzset()
