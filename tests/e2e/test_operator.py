"""Operator commands beside a running daemon, as processes."""

import json
from dataclasses import replace

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import Daemon, Place
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ENDED = [
    JobScript(job_id=f"job-{number}", queue_seconds=0.0, run_seconds=0.0) for number in range(3)
]


async def run_command(place: Place, *words: str, code: int = 0) -> Daemon:
    """Run a command that must exit with a code."""
    found, ended = await place.run(*words)
    assert (found, ended.err if found == 78 else "") == (code, "")
    return ended


@pytest.mark.slow
async def test_operator_repairs_a_sink(place: Place):
    """Events are pending, dead after a 410, back by `enable`, and sent again by `replay`."""
    place.receiver.status = 503
    async with place.running("run", POLLER_JOB_IDS=place.jobs(*ENDED)) as daemon:
        await until(lambda: len(daemon.said("delivery.failed")) >= 3)
        pending = json.loads((await run_command(place, "status", "-o", "json")).out)
        place.receiver.status = 410
        await daemon.saying("poller.sink_disabled")  # the database has it
        disabled, *_ = daemon.said("sink.disabled")
        status = await run_command(place, "status", code=1)
        dead = json.loads((await run_command(place, "dead", "ls", "-o", "json")).out)
        await run_command(place, "dead", "replay", "--all", code=1)
        await run_command(place, "sinks", "test", "webhook", code=1)
        place.receiver.status = 204
        await run_command(place, "sinks", "test", "webhook")
        await run_command(place, "sinks", "enable", "webhook")
        await until(lambda: len(place.receiver.ends) == 3)
        first = {
            event.id: event for event in place.receiver.received if event.type == "job.succeeded"
        }
        chosen = next(iter(first))
        await until(lambda: len(daemon.said("job.succeeded")) == 3)
        await run_command(place, "events", "replay", chosen[:12], "--sink", "webhook")
        await until(lambda: len(place.receiver.ends) == 4)
        await run_command(place, "status")
        code = await daemon.stop()

    again = place.receiver.received[-1]
    assert disabled["advice"].endswith("then run `sutro-poller sinks enable webhook`")
    assert code == 0
    assert (pending["is_running"], pending["sinks"][1]["pending"]) == (True, 3)
    assert "webhook is disabled (the receiver returned 410)" in status.out
    assert {row["event_id"] for row in dead} == set(first)
    assert again == replace(first[chosen], at=again.at, is_replay=True)


async def test_replay_without_a_daemon_is_sent_by_the_next_start(place: Place):
    """An event that is replayed while no daemon runs is sent by the next start."""
    jobs = place.jobs(*ENDED)
    for count in (3, 4):
        async with place.running("run", POLLER_JOB_IDS=jobs) as daemon:
            await until(lambda count=count: len(place.receiver.ends) == count)
            assert await daemon.stop() == 0
        last = place.receiver.received[-1]
        await run_command(place, "status")
        await run_command(place, "events", "replay", last.id, "--sink", "webhook")

    assert [event.is_replay for event in place.receiver.received] == [False, False, False, True]
    assert len({event.id for event in place.receiver.received}) == 3
