"""What was announced, through the door: listed, shown, sent again."""

from pathlib import Path

import pytest

from poller.sutro.simulator.script import JobScript
from tests.api.conftest import ENDS, RUNS
from tests.api.test_jobs import pages
from tests.support.api_server import House, a_house
from tests.support.builders import check_event
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
UNKNOWN = "evt_" + "a" * 52


async def the_end(house: House) -> str:
    """Give the id of the event of job-2's end, once it was delivered."""
    (receipt,) = await until(lambda: [it for it in house.receiver.receipts if it.is_answered])
    while True:
        shown = (await house.get(f"/v1/events/{receipt.id}")).body
        if all(it["status"] == "delivered" for it in shown["deliveries"]):
            return receipt.id


async def test_an_event_is_shown(house: House):
    """An event is shown with the body that was sent, and with where it went."""
    event_id = await the_end(house)

    shown = (await house.get(f"/v1/events/{event_id}")).body

    assert (shown["type"], shown["subject"]) == ("job.succeeded", "job-2")
    assert shown["body"] == check_event(house.receiver.receipts[0].body)
    statuses = {it["sink"]: it["status"] for it in shown["deliveries"]}
    assert statuses == {"log": "delivered", "webhook": "delivered"}


async def test_events_page_by_page(house: House):
    """Pages together show every event once, the latest first."""
    await the_end(house)
    for number in range(3, 6):
        house.api.add(JobScript(job_id=f"job-{number}", queue_seconds=0.0, run_seconds=0.0))
        await house.post("/v1/jobs", {"job_ids": [f"job-{number}"]})
        await until(lambda n=number: f"job-{n}" in house.receiver.ends)

    found = await pages(house, "/v1/events?limit=3&type=job.succeeded", "events")

    assert [len(it) for it in found] == [3, 1]
    assert len({it for page in found for it in page}) == 4


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("job=job-2", 1),
        ("job=job", 0),
        ("type=job.succeeded", 1),
        ("type=job.failed", 0),
        ("sink=webhook", 1),
        ("sink=nobody", 0),
        ("state=delivered", 1),
        ("state=dead", 0),
        ("sink=log&state=delivered&since=2020-01-01T00:00:00Z", 1),
        ("since=2100-01-01T00:00:00Z", 0),
    ],
)
async def test_filters(house: House, query: str, count: int):
    """Events are filtered by job, type, sink, status and time; ids and names are whole ones."""
    await the_end(house)

    assert len((await house.get(f"/v1/events?{query}")).body["events"]) == count


@pytest.mark.parametrize("query", ["type=job", "state=DEAD", "sink=X", "job=a/b", "state="])
async def test_odd_queries(house: House, query: str):
    """What is not understood in a query is not passed over."""
    assert (await house.get(f"/v1/events?{query}")).problem == "invalid"


async def test_an_event_goes_again(house: House):
    """A replay is at once: the same id, the same bytes, told as a replay."""
    event_id = await the_end(house)

    answer = await house.post(f"/v1/events/{event_id}/replay?sink=webhook")
    again = await until(lambda: [it for it in house.receiver.receipts if it.is_replay], within=4.0)

    assert answer.body == {"deliveries": [{"sink": "webhook", "skipped_reason": None}]}
    first = house.receiver.receipts[0]
    assert [(it.id, it.body) for it in again] == [(first.id, first.body)]


async def test_no_body_is_passed_over(house: House):
    """What stands in a body where none is read is refused: it may have been meant to limit it."""
    await until(lambda: house.receiver.ends)
    event_id = (await house.get("/v1/events?sink=webhook")).body["events"][0]["id"]
    answer = await house.post(f"/v1/events/{event_id}/replay", {"sink": "nope"})

    assert (answer.status, answer.problem) == (400, "invalid")


async def test_what_is_under_way_does_not_go_again(tmp_path: Path):
    """What waits already is left as it is, and the answer says so."""
    async with a_house(tmp_path, RUNS, ENDS, status=500, POLLER_JOB_IDS="job-2") as house:
        await house.seen("job-2", "SUCCEEDED")
        (event,) = (await house.get("/v1/events")).body["events"]
        answer = await house.post(f"/v1/events/{event['id']}/replay?sink=webhook")

    assert answer.status == 200
    assert answer.body["deliveries"] == [{"sink": "webhook", "skipped_reason": "already pending"}]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (UNKNOWN, "not-found"),
        ("evt_a", "invalid"),
        ("evt_", "invalid"),
        (UNKNOWN.upper(), "invalid"),
    ],
)
async def test_events_that_are_not_there(house: House, path: str, problem: str):
    """An id that nothing has is not found; the beginning of one is no id."""
    await the_end(house)

    shown = await house.get(f"/v1/events/{path}")
    again = await house.post(f"/v1/events/{path}/replay")

    assert (shown.problem, again.problem) == (problem, problem)


async def test_a_sink_that_is_not_there(house: House):
    """A replay to a sink that nobody knows is not found."""
    event_id = await the_end(house)

    answer = await house.post(f"/v1/events/{event_id}/replay?sink=nobody")

    assert answer.problem == "not-found"


async def test_an_event_for_nobody(tmp_path: Path):
    """An event that no sink was to get goes to the one that is named."""
    given = {"POLLER_WEBHOOK_EVENTS": "job.failed", "POLLER_SINKS": "webhook"}
    async with a_house(tmp_path, RUNS, ENDS, POLLER_JOB_IDS="job-2", **given) as house:
        await house.seen("job-2", "SUCCEEDED")
        (event,) = (await house.get("/v1/events")).body["events"]
        nobody = await house.post(f"/v1/events/{event['id']}/replay")
        somebody = await house.post(f"/v1/events/{event['id']}/replay?sink=webhook")
        await until(lambda: house.receiver.receipts)

    assert (nobody.status, nobody.problem) == (409, "conflict")
    assert somebody.status == 200
