"""Fleets: whatever is done to the daemon, the API and the store, each end is told once."""

from typing import Final

import pytest

from tests.fault_injection.fleet import Fleet
from tests.fault_injection.rig import SCALE, tally

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.virtual(limit=1e9),
    pytest.mark.usefixtures("quiet"),
]

SHARDS: Final = 4
PROMISE = "whatever API, list and store do, each end of many jobs is reported with one id"


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_each_end_of_a_fleet_is_told(shard: int):
    """After any disturbance each end has been told once, and no job was taken for missing."""
    cases, violations = range(shard, SCALE.cases(24, 200), SHARDS), []
    for case in cases:
        fleet = Fleet(SCALE.random("fleets", case))
        await fleet.run()
        violations += [f"fleet {case}: {it}" for it in fleet.violations]

    tally(PROMISE, cases=len(cases), violations=violations)
