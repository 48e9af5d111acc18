"""The watch list through the door: looked at, added to, taken from, while the daemon runs."""

from pathlib import Path

import anyio
import pytest

from poller.api import jobs
from poller.sutro.simulator.script import JobScript
from tests.api.conftest import ENDS, RUNS
from tests.support.api_server import House, a_house
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def pages(house: House, path: str, name: str) -> list[list[str]]:
    """Read all pages of a list; give the ids on each."""
    found, cursor = [], ""
    while cursor is not None:
        page = (await house.get(path + cursor)).body
        found.append([it.get("job_id") or it["id"] for it in page[name]])
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    return found


async def test_a_job_is_shown(house: House):
    """A job is shown with how it stands, who named it, and the API's own object."""
    await house.post("/v1/jobs", {"job_ids": ["job-1"]})
    shown = (await house.get("/v1/jobs/job-1")).body

    assert shown["state"] == shown["job"]["status"] == "RUNNING"
    assert shown["watched_by"] == ["environment", "api"]
    assert shown["deployment"].startswith("127.0.0.1:")
    assert "system_prompt" not in shown["job"]


async def test_a_job_that_nobody_knows(house: House):
    """A job that is neither watched nor was is not found."""
    assert (await house.get("/v1/jobs/job-9")).problem == "not-found"
    assert (await house.get("/v1/jobs/job")).problem == "not-found"


async def test_an_added_job_is_told(house: House):
    """A job that is added while the daemon runs is watched at once, and its end is told."""
    house.api.add(JobScript(job_id="job-3", run_seconds=0.2, queue_seconds=0.0))
    added = await house.post("/v1/jobs", {"job_ids": ["job-3", "job-1", "job-3"]})
    shown = await house.get("/v1/jobs/job-3")
    await until(lambda: "job-3" in house.receiver.ends)

    assert added.status == 200
    told = [{"job_id": "job-3", "is_new": True}, {"job_id": "job-1", "is_new": False}]
    assert added.body == {"jobs": told}
    assert shown.body["watched_by"] == ["api"]


async def test_adding_again_changes_nothing(house: House):
    """To add a job twice is no mistake, and tells nothing twice."""
    first = await house.post("/v1/jobs", {"job_ids": ["job-2"]})
    again = await house.post("/v1/jobs", {"job_ids": ["job-2"]})
    await anyio.sleep(0.3)

    assert first.body == again.body
    assert house.receiver.ends == ["job-2"]


async def test_added_jobs_survive_a_restart(tmp_path: Path):
    """What was added is watched after a restart, though the settings do not name it."""
    async with a_house(tmp_path, RUNS, JobScript(job_id="job-2", run_seconds=1e5)) as house:
        await house.post("/v1/jobs", {"job_ids": ["job-2"]})
        port = house.api_port
    ended = JobScript(job_id="job-2", queue_seconds=0.0, run_seconds=0.0)
    async with a_house(tmp_path, RUNS, ended, api_port=port) as house:
        watched = (await house.get("/v1/jobs/job-2")).body["watched_by"]
        await until(lambda: "job-2" in house.receiver.ends)

    assert watched == ["api"]


@pytest.mark.slow
async def test_a_removed_job_is_asked_for_no_more(house: House):
    """A job that was added can be taken back: it is not asked for, and not after a restart."""
    house.api.add(JobScript(job_id="job-3", run_seconds=1e5))
    await house.post("/v1/jobs", {"job_ids": ["job-3"]})
    await house.seen("job-3", "RUNNING")
    removed = await house.ask("DELETE", "/v1/jobs/job-3")
    again = await house.ask("DELETE", "/v1/jobs/job-3")
    shown = (await house.get("/v1/jobs/job-3")).body
    await anyio.sleep(0.3)
    asked = [it for it in house.api.log if it.path.endswith("/job-3")]
    await anyio.sleep(0.5)

    assert (removed.status, again.problem) == (204, "not-found")
    assert (shown["state"], shown["watched_by"]) == ("RUNNING", [])
    assert [it for it in house.api.log if it.path.endswith("/job-3")] == asked


async def test_what_others_named_stays(tmp_path: Path):
    """A job of the settings or of the file is not removed; the answer says who names it."""
    ids = tmp_path / "ids"
    ids.write_text("job-2\n")
    async with a_house(tmp_path, RUNS, ENDS, POLLER_JOBS_FILE=str(ids)) as house:
        await house.seen("job-2", "SUCCEEDED")
        await house.post("/v1/jobs", {"job_ids": ["job-2"]})
        answers = [await house.ask("DELETE", f"/v1/jobs/job-{n}") for n in (1, 2)]
        still = (await house.get("/v1/jobs/job-2")).body["watched_by"]

    assert [it.problem for it in answers] == ["managed-by-config"] * 2
    told = [it.body["detail"].removeprefix("watched because of ") for it in answers]
    assert told == ["POLLER_JOB_IDS", "POLLER_JOBS_FILE"]
    assert still == ["file", "api"]


async def test_jobs_that_were_found_stay(tmp_path: Path):
    """A job that discovery found cannot be removed: it would be found again."""
    given = {"POLLER_JOB_IDS": "", "POLLER_DISCOVER": "on", "POLLER_DISCOVER_INTERVAL": "0.1s"}
    async with a_house(tmp_path, RUNS, **given) as house:
        await house.seen("job-1", "RUNNING")
        shown = (await house.get("/v1/jobs/job-1")).body
        answer = await house.ask("DELETE", "/v1/jobs/job-1")

    assert shown["watched_by"] == ["discovery"]
    assert answer.body["detail"] == "watched because of POLLER_DISCOVER"


async def test_nothing_but_a_door(tmp_path: Path):
    """With a door that was asked for no job has to be named at the start."""
    async with a_house(tmp_path, ENDS, POLLER_JOB_IDS="") as house:
        empty = (await house.get("/v1/jobs")).body
        await house.post("/v1/jobs", {"job_ids": ["job-2"]})
        await until(lambda: house.receiver.ends)

    assert empty == {"jobs": [], "next_cursor": None}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"job_ids": []}',
        b'{"job_ids": "job-1"}',
        b'{"job_ids": [1]}',
        b'{"job_ids": [".."]}',
        b'{"job_ids": ["a/b"]}',
        b'{"job_ids": ["job-1"], "force": true}',
        b'{"job_ids": ["' + b"x" * 129 + b'"]}',
        b'{"job_ids": [' + b'"a",' * 1_000 + b'"a"]}',
    ],
    ids=lambda body: body[:24].decode(),
)
async def test_what_cannot_be_added(house: House, body: bytes):
    """A body that is not what it should be changes nothing, and the answer says what is wrong."""
    headers = {"Content-Type": "application/json"}
    answer = await house.ask("POST", "/v1/jobs", data=body, headers=headers)

    if body:
        assert answer.problem == "invalid"
        assert answer.body["errors"][0]["where"].startswith("body")
    assert answer.status == 400
    assert house.app._watchlist.added == ()


async def test_what_is_wrong_is_said_plainly(house: House):
    """What is wrong is said in words for whoever asks, not in those of a library."""
    told = {
        (await house.get(f"/v1/jobs?{query}")).body["detail"]
        for query in ("colour=red", "cursor=x")
    } | {
        (await house.post("/v1/jobs", body)).body["detail"]
        for body in ({"job_id": "a"}, {"job_ids": []}, {"job_ids": ["a"] * 1_001})
    }

    assert told == {
        "query/colour: is unknown",
        "query/cursor: has the wrong format",
        "body/job_ids: is required",
        "body/job_ids: must not be empty",
        "body/job_ids: has too many items",
    }


async def test_a_body_that_is_too_large(house: House):
    """A body over the cap is refused, however it would be read."""
    answer = await house.post("/v1/jobs", {"job_ids": ["x" * 300_000]})

    assert (answer.status, answer.problem) == (413, "too-large")


async def test_too_many_added(house: House, monkeypatch):
    """The list of what was added has an end."""
    monkeypatch.setattr(jobs, "MAX_ADDED_IDS", 2)

    answers = [await house.post("/v1/jobs", {"job_ids": [f"new-{n}"]}) for n in range(3)]

    assert [it.status for it in answers] == [200, 200, 409]
    assert answers[2].problem == "conflict"


async def test_jobs_page_by_page(house: House):
    """Pages together show every job once, those that no answer has shown yet at last."""
    await house.post("/v1/jobs", {"job_ids": [f"new-{n}" for n in range(5)]})
    await until(lambda: len(house.app._api.daemon.watcher.tracker.unseen_ids) == 5)

    found = await pages(house, "/v1/jobs?limit=3", "jobs")

    assert [len(it) for it in found] == [3, 3, 1]
    assert sorted(found[0][:2]) == ["job-1", "job-2"]
    assert found[0][2:] + found[1] + found[2] == [f"new-{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("query", "job_ids"),
    [
        ("state=SUCCEEDED", ["job-2"]),
        ("state=MISSING", []),
        ("since=2020-01-01T00:00:00Z&state=RUNNING", ["job-1"]),
        ("since=2100-01-01T00:00:00%2B02:00", []),
    ],
)
async def test_filters(house: House, query: str, job_ids: list[str]):
    """Jobs are filtered by their state and by when they changed last."""
    found = (await house.get(f"/v1/jobs?{query}")).body["jobs"]

    assert [it["job_id"] for it in found] == job_ids


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=101", "limit=x", "limit=", "limit=1&limit=2", "colour=red"),
        *("state=running", "state=", "since=yesterday", "since=2024-01-15T10:00:00"),
        *("cursor=", "cursor=x", "cursor=1_", "cursor=x_job-1", "cursor=%C3%BC"),
    ],
)
async def test_odd_queries(house: House, query: str):
    """What is not understood in a query is not passed over."""
    answer = await house.get(f"/v1/jobs?{query}")

    assert (answer.status, answer.problem) == (400, "invalid")


@pytest.mark.parametrize("job_id", ["x" * 129, "%C3%BC", "a%20b", "%2E%2E%2Fx"])
async def test_odd_ids(house: House, job_id: str):
    """What can be no id is told as such."""
    answer = await house.get(f"/v1/jobs/{job_id}")

    assert answer.problem in {"invalid", "not-found"}


async def test_memory_store_serves_queries(tmp_path: Path):
    """With a store in memory, jobs can be added and listed, and so can events."""
    async with a_house(tmp_path, RUNS, ENDS, POLLER_STORE="memory:") as house:
        added = await house.post("/v1/jobs", {"job_ids": ["job-2"]})
        await until(lambda: "job-2" in house.receiver.ends)
        listed = await house.get("/v1/jobs")
        events = await house.get("/v1/events?job=job-2")

    assert added.status == 200
    assert "job-2" in {job["job_id"] for job in listed.body["jobs"]}
    assert [event["type"] for event in events.body["events"]] == ["job.succeeded"]
