"""The operator's verbs beside a running daemon, as processes."""

import json
from dataclasses import replace

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.daemon_process import Daemon, Place
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ENDED = [JobScript(job_id=f"job-{it}", queue_seconds=0.0, run_seconds=0.0) for it in range(3)]


async def asked(place: Place, *words: str, code: int = 0) -> Daemon:
    """Run a verb that has to exit with a code."""
    found, ended = await place.run(*words)
    assert (found, ended.err if found == 78 else "") == (code, "")
    return ended


@pytest.mark.slow
async def test_an_operator_heals_a_sink(place: Place):
    """Pending in trouble, dead after a 410, back by `enable`, sent again by `replay`."""
    place.receiver.status = 503
    async with place.running("run", POLLER_JOB_IDS=place.jobs(*ENDED)) as daemon:
        await until(lambda: len(daemon.said("delivery.failed")) == 3)
        pending = json.loads((await asked(place, "status", "-o", "json")).out)
        place.receiver.status = 410
        (disabled,) = await daemon.saying("sink.disabled")
        sick = await asked(place, "status", code=1)
        dead = json.loads((await asked(place, "dead", "ls", "-o", "json")).out)
        await asked(place, "dead", "replay", "--all", code=1)
        await asked(place, "sinks", "test", "webhook", code=1)
        place.receiver.status = 204
        await asked(place, "sinks", "test", "webhook")
        await asked(place, "sinks", "enable", "webhook")
        await until(lambda: len(place.receiver.ends) == 3)
        first = {it.id: it for it in place.receiver.receipts if it.type == "job.succeeded"}
        chosen = next(iter(first))
        await until(lambda: len(daemon.said("job.succeeded")) == 3)
        await asked(place, "events", "replay", chosen[:12], "--sink", "webhook")
        await until(lambda: len(place.receiver.ends) == 4)
        await asked(place, "status")
        code = await daemon.stop()

    again = place.receiver.receipts[-1]
    assert disabled["advice"].endswith("then sutro-poller sinks enable webhook")
    assert code == 0
    assert (pending["is_running"], pending["sinks"][1]["pending"]) == (True, 3)
    assert "webhook is disabled (the receiver returned 410)" in sick.out
    assert {it["event_id"] for it in dead} == set(first)
    assert again == replace(first[chosen], at=again.at, is_replay=True)


async def test_verbs_and_starts_do_not_disturb_each_other(place: Place):
    """What is replayed while nobody runs is sent by the next start, and only that."""
    jobs = place.jobs(*ENDED)
    for count in (3, 4):
        async with place.running("run", POLLER_JOB_IDS=jobs) as daemon:
            await until(lambda count=count: len(place.receiver.ends) == count)
            assert await daemon.stop() == 0
        last = place.receiver.receipts[-1]
        await asked(place, "status")
        await asked(place, "events", "replay", last.id, "--sink", "webhook")

    assert [it.is_replay for it in place.receiver.receipts] == [False, False, False, True]
    assert len({it.id for it in place.receiver.receipts}) == 3
