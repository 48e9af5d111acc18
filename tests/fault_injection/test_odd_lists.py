"""Lists that keep no order: every job is discovered in time, and requests stay bounded."""

from typing import Final

import pytest

from tests.fault_injection.harness import SCALE, tally
from tests.fault_injection.odd_list import Discovered, OddList

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.virtual(limit=1e6),
    pytest.mark.usefixtures("quiet"),
]

PROMISE = "a job is discovered before as long again as the list showed it late, or in six minutes"

LISTS: Final = SCALE.cases(24, 300)
LISTS_PER_TEST: Final = 60


@pytest.mark.parametrize("first", range(0, LISTS, LISTS_PER_TEST))
async def test_odd_list_hides_no_job(first: int):
    """Rows that are late, odd, unreadable or double, and cursors without an end, hide no job."""
    cases, violations = range(LISTS)[first : first + LISTS_PER_TEST], []
    for case in cases:
        random = SCALE.random("odd lists", case)
        discovered = Discovered(OddList(random), per_minute=random.choice([120.0, 600.0]))
        await discovered.run()
        violations += [f"list {case}: {line}" for line in discovered.violations]

    tally(PROMISE, cases=len(cases), violations=violations)
