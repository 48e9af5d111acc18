"""Accounts whose list is wrong: each end is reported in time, within the budget of requests."""

from collections.abc import Collection
from typing import Final

import pytest

from tests.fault_injection.burst_world import KINDS, BurstWorld
from tests.fault_injection.harness import SCALE, tally
from tests.fault_injection.list_faults import FAULTS
from tests.fault_injection.list_world import ListWorld

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.virtual(limit=1e9),
    pytest.mark.usefixtures("quiet"),
]

PROMISE: Final = (
    "whatever is wrong in the job list, each end is reported in time, within the budget"
)
BURST_PROMISE: Final = "thousands of new ids at once hold up no end, and each of them is polled"


async def run_worlds(name: str, cases: int, faults: Collection[str]) -> None:
    """Run some worlds with faults of their lists, and record the result."""
    violations = []
    for case in range(cases):
        world = ListWorld(SCALE.random("list", name, case), faults)
        await world.run()
        violations += [f"{name} {case}: {line}" for line in world.violations]

    tally(PROMISE, cases=cases, violations=violations)


@pytest.mark.parametrize("fault", FAULTS)
async def test_wrong_list_hides_no_end(fault: str):
    """With a list that is wrong in one way, each end is reported in time."""
    await run_worlds(fault, SCALE.cases(3, 20), {fault})


async def test_list_that_is_wrong_in_several_ways_hides_no_end():
    """With any three faults of the list at once, each end is reported in time."""
    for case in range(SCALE.cases(3, 20)):
        faults = SCALE.random("three", case).sample(list(FAULTS), 3)
        await run_worlds(f"three {case}", 1, faults)


@pytest.mark.parametrize("kind", KINDS)
async def test_burst_of_new_ids_holds_up_nothing(kind: str):
    """New ids and the jobs that are watched already take turns while the budget binds."""
    cases, violations = SCALE.cases(1, 2), []
    for case in range(cases):
        random = SCALE.random("burst", kind, case)
        world = BurstWorld(random, kind, burst=SCALE.cases(1_000, 10_000))
        await world.run()
        violations += [f"{kind} {case}: {line}" for line in world.violations]

    tally(BURST_PROMISE, cases=cases, violations=violations)
