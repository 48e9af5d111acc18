"""Fields that come after the end of a job, and what must be reported of them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import anyio

from poller.core.events import Event
from tests.fault_injection.scripted_jobs import OUTCOMES
from tests.fault_injection.unreliable_api import Site
from tests.support.builders import check_event

ENDS: Final = {f"job.{ends_as}" for ends_as in OUTCOMES}
LATE_DELAYS: Final = ([0.0], [0.0, 10.0, 25.0], [0.0, 40.0, 400.0, 5_000.0], [0.0, math.inf])
"""By how many seconds the fields of an end are late."""


def late_fields_violations(events: Sequence[Event], site: Site) -> list[str]:
    """Return the ends of one database that have one job.settled too few or too many."""
    settled = Counter(event.subject for event in events if event.type == "job.settled")
    found = []
    for event in events:
        data, told = check_event(event.body)["data"], settled[event.subject]
        if event.type in ENDS:
            job = site.api.timelines[event.subject].at(anyio.current_time())
            is_owed = not data["final"]
            # What never comes whole is reported in part, a day after the end.
            is_right = told == is_owed if job.is_final else told <= is_owed
            found += [] if is_right else [f"{told} times job.settled of {job} at {site.name}"]
    return found
