"""Fleets: whatever fails, each end is reported once."""

from typing import Final

import pytest

from tests.fault_injection.fleet import Fleet
from tests.fault_injection.harness import SCALE, tally

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.virtual(limit=1e9),
    pytest.mark.usefixtures("quiet"),
]

SHARDS: Final = 4
PROMISE = "whatever API, list and store do, each end of many jobs is reported with one id"


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_fleet_reports_each_end_once(shard: int):
    """After any disturbance each end was reported once, and no job was missing by mistake."""
    cases, violations = range(shard, SCALE.cases(24, 200), SHARDS), []
    for case in cases:
        fleet = Fleet(SCALE.random("fleets", case))
        await fleet.run()
        violations += [f"fleet {case}: {line}" for line in fleet.violations]

    tally(PROMISE, cases=len(cases), violations=violations)
