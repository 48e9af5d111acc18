"""The sinks through the door, and how the daemon stands as a whole."""

from pathlib import Path

import anyio
import pytest

from poller import __version__
from tests.api.conftest import ENDS, RUNS
from tests.support.api_server import House, a_house
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_the_sinks(house: House):
    """Each sink is shown with what waits for it; never with where it is."""
    await until(lambda: house.receiver.ends)
    sinks = (await house.get("/v1/sinks")).body["sinks"]

    assert [(it["sink"], it["state"], it["dead"]) for it in sinks] == [
        ("log", "enabled", 0),
        ("webhook", "enabled", 0),
    ]


async def test_a_sink_is_switched_on(tmp_path: Path):
    """What a 410 switched off is switched on again, and all that was kept for it goes out."""
    async with a_house(tmp_path, RUNS, ENDS, status=410, POLLER_JOB_IDS="job-2") as house:
        await until(lambda: [it for it in house.log if it["event"] == "sink.disabled"])
        await anyio.sleep(0.3)  # the outcome of that attempt is written by then
        status = (await house.get("/v1/status")).body
        house.receiver.status = 204
        on = await house.post("/v1/sinks/webhook/enable")
        again = await house.post("/v1/sinks/webhook/enable")
        await until(lambda: house.receiver.ends)

    (webhook,) = [it for it in status["sinks"] if it["sink"] == "webhook"]
    assert (webhook["enabled"], webhook["dead"]) == (False, 1)
    assert on.body == {"sink": "webhook", "was_disabled": True, "pending_again": 1}
    assert again.body == {"sink": "webhook", "was_disabled": False, "pending_again": 0}


async def test_a_sink_is_tried(house: House):
    """A test event goes at once, signed, and the answer says that it was taken."""
    answer = (await house.post("/v1/sinks/webhook/test")).body

    tests = [it.id for it in house.receiver.receipts if it.type == "poller.test"]
    assert answer == {"sink": "webhook", "event_id": tests[0], "delivered": True, "reason": None}


async def test_a_sink_that_does_not_take_it(tmp_path: Path):
    """A test that fails says why, without the address; nothing of it is kept."""
    async with a_house(tmp_path, RUNS, status=500) as house:
        answer = (await house.post("/v1/sinks/webhook/test")).body
        events = (await house.get("/v1/events?type=poller.test")).body["events"]

    assert (answer["delivered"], answer["reason"]) == (False, "the receiver returned 500")
    assert events == []


@pytest.mark.parametrize("act", ["enable", "test"])
@pytest.mark.parametrize(("name", "problem"), [("nobody", "not-found"), ("No", "invalid")])
async def test_a_sink_that_is_not_there(house: House, act: str, name: str, problem: str):
    """A sink that is not configured can neither be tried nor be switched on."""
    assert (await house.post(f"/v1/sinks/{name}/{act}")).problem == problem


async def test_the_sinks_that_there_are_are_named(house: House):
    """Who tries a sink that is not configured is told which are."""
    detail = (await house.post("/v1/sinks/nobody/test")).body["detail"]

    assert detail == "no such sink; configured: log, webhook"


@pytest.mark.parametrize("act", ["enable", "test"])
async def test_no_body_is_passed_over(house: House, act: str):
    """What stands in a body where none is read is refused, and nothing is done."""
    answer = await house.post(f"/v1/sinks/webhook/{act}", {"dry_run": True})

    assert (answer.status, answer.problem) == (400, "invalid")
    assert "poller.test" not in [it.type for it in house.receiver.receipts]


async def test_the_status(house: House):
    """The status says what runs, how it is, what it watches and what waits."""
    status = (await house.get("/v1/status")).body

    assert (status["version"], status["ready"], status["issues"]) == (__version__, True, [])
    assert status["jobs"] == {"RUNNING": 1, "SUCCEEDED": 1}
    assert status["api"]["last_response_at"]
    assert status["api"]["failing_since"] is None
    assert status["store"] == {"error": None}
    assert [it["sink"] for it in status["sinks"]] == ["log", "webhook"]


async def test_a_refused_key(tmp_path: Path):
    """A refused key is a trouble, with what to do about it, and no ill of the daemon."""
    async with a_house(tmp_path, RUNS) as house:
        await house.seen("job-1", "RUNNING")
        house.api.key = "another"
        gate = house.app._rate_limiter.gate
        await until(lambda: gate.opens_at)
        house.app.reload()
        await until(lambda: gate.is_rejected)
        status = (await house.get("/v1/status")).body

    (issue,) = [it for it in status["issues"] if it["name"] == "api_key_rejected"]
    assert "set SUTRO_API_KEY" in issue["remedy"]
    assert status["ready"]
