"""Stops in every state, at any moment, with one signal or two."""

from dataclasses import replace
from signal import SIGINT, SIGTERM
from typing import Final

import anyio
import pytest

from tests.e2e import test_stop_states as stops
from tests.fault_injection.harness import SCALE, ForkedProcess, tally

pytestmark = pytest.mark.anyio

ROUNDS: Final = SCALE.cases(1, 15)
ANY_STATE: Final = "a signal, or two, end the daemon with 0 whatever it is doing"
HUNG_PLUGIN: Final = "a plug-in that hangs, in a thread or in the loop, holds up no stop"
STOP_TIMEOUT: Final = "4"
STORE_GRACE: Final = "2"
"""Seconds of a stop after which the daemon exits, and after which its store is interrupted."""

machine = stops.machine


@pytest.mark.parametrize("is_plugin", [False, True], ids=["any state", "hung plug-in"])
async def test_stop_at_any_moment(machine: stops.Machine, is_plugin: bool):
    """Daemons in every state get one signal or two, and all of them exit with 0."""
    states = {name: state for name, state in stops.STATES.items() if ("sink" in name) == is_plugin}
    random, ends = SCALE.random("stop states", is_plugin), []

    async def stop(name: str, child: ForkedProcess, *delays: float) -> None:
        for delay, number in zip(delays, (SIGTERM, SIGINT), strict=False):
            await anyio.sleep(delay)
            child.send(number)
        with anyio.move_on_after(120.0):
            await child.exited.wait()
        ends.append((name, child.code, delays))

    for number in range(ROUNDS):
        place = replace(machine, folder=machine.folder / f"{number}")
        place.folder.mkdir()
        children = {
            name: await stops.start(
                place, state, stop_timeout=STOP_TIMEOUT, store_grace=STORE_GRACE
            )
            for name, state in states.items()
        }
        async with anyio.create_task_group() as group:
            for name, child in children.items():
                delays = [random.uniform(0.0, 1.0) for _ in range(random.choice((1, 2)))]
                group.start_soon(stop, name, child, *delays)

    violations = [f"{name} ended with {code}: {delays}" for name, code, delays in ends if code != 0]
    tally(HUNG_PLUGIN if is_plugin else ANY_STATE, cases=len(ends), violations=violations)
