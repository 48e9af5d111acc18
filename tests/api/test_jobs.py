"""Jobs in the HTTP API: list, show, add, remove."""

from pathlib import Path
from urllib.parse import quote

import anyio
import pytest

from poller.api import jobs
from poller.sutro.simulator.script import JobScript
from tests.api.conftest import ENDS, RUNS
from tests.support.api_server import LiveDaemon, live_daemon
from tests.support.ports import reserved_port
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def pages(daemon: LiveDaemon, path: str, name: str) -> list[list[str]]:
    """Return the ids on each page of a list."""
    found, cursor = [], ""
    while cursor is not None:
        page = (await daemon.get(path + cursor)).body
        found.append([row.get("job_id") or row["id"] for row in page[name]])
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    return found


async def test_jobs_show(daemon: LiveDaemon):
    """A job is shown with its state, its sources, and the object of the API."""
    await daemon.post("/v1/jobs", {"job_ids": ["job-1"]})
    shown = (await daemon.get("/v1/jobs/job-1")).body

    assert shown["state"] == shown["job"]["status"] == "RUNNING"
    assert shown["watched_by"] == ["environment", "api"]
    assert shown["deployment"].startswith("127.0.0.1:")
    assert "system_prompt" not in shown["job"]


async def test_jobs_show_rejects_an_unknown_job(daemon: LiveDaemon):
    """A job that was never watched is not found."""
    assert (await daemon.get("/v1/jobs/job-9")).problem == "not-found"
    assert (await daemon.get("/v1/jobs/job")).problem == "not-found"


async def test_jobs_add_watches_at_once(daemon: LiveDaemon):
    """A job that is added at run time is watched at once, and its end is announced."""
    daemon.api.add(JobScript(job_id="job-3", run_seconds=0.2, queue_seconds=0.0))
    added = await daemon.post("/v1/jobs", {"job_ids": ["job-3", "job-1", "job-3"]})
    shown = await daemon.get("/v1/jobs/job-3")
    await until(lambda: "job-3" in daemon.receiver.ends)

    assert added.status == 200
    expected = [{"job_id": "job-3", "is_new": True}, {"job_id": "job-1", "is_new": False}]
    assert added.body == {"jobs": expected}
    assert shown.body["watched_by"] == ["api"]


async def test_jobs_add_is_idempotent(daemon: LiveDaemon):
    """Adding a job twice is no error and announces nothing twice."""
    first = await daemon.post("/v1/jobs", {"job_ids": ["job-2"]})
    again = await daemon.post("/v1/jobs", {"job_ids": ["job-2"]})
    await until(lambda: daemon.receiver.ends)
    await anyio.sleep(0.3)

    assert first.body == again.body
    assert daemon.receiver.ends == ["job-2"]


async def test_jobs_add_survives_a_restart(tmp_path: Path):
    """An added job is watched after a restart, though no setting has it."""
    runs = JobScript(job_id="job-2", run_seconds=1e5)
    ended = JobScript(job_id="job-2", queue_seconds=0.0, run_seconds=0.0)
    with reserved_port() as port:
        async with live_daemon(tmp_path, RUNS, runs, api_port=port) as daemon:
            await daemon.post("/v1/jobs", {"job_ids": ["job-2"]})
        async with live_daemon(tmp_path, RUNS, ended, api_port=port) as daemon:
            watched = (await daemon.get("/v1/jobs/job-2")).body["watched_by"]
            await until(lambda: "job-2" in daemon.receiver.ends)

    assert watched == ["api"]


@pytest.mark.slow
async def test_jobs_remove_ends_polling(daemon: LiveDaemon):
    """An added job can be removed: it is not polled any more."""
    daemon.api.add(JobScript(job_id="job-3", run_seconds=1e5))
    await daemon.post("/v1/jobs", {"job_ids": ["job-3"]})
    await daemon.wait_for_job("job-3", "RUNNING")
    removed = await daemon.request("DELETE", "/v1/jobs/job-3")
    again = await daemon.request("DELETE", "/v1/jobs/job-3")
    shown = (await daemon.get("/v1/jobs/job-3")).body
    await anyio.sleep(0.3)
    polls = [request for request in daemon.api.log if request.path.endswith("/job-3")]
    await anyio.sleep(0.5)

    assert (removed.status, again.problem) == (204, "not-found")
    assert (shown["state"], shown["watched_by"]) == ("RUNNING", [])
    assert [request for request in daemon.api.log if request.path.endswith("/job-3")] == polls


async def test_jobs_remove_rejects_jobs_of_the_settings(tmp_path: Path):
    """A job of the settings or of the file is not removed; the problem has the setting."""
    ids = tmp_path / "ids"
    ids.write_text("job-2\n")
    async with live_daemon(tmp_path, RUNS, ENDS, POLLER_JOBS_FILE=str(ids)) as daemon:
        await daemon.wait_for_job("job-2", "SUCCEEDED")
        await daemon.post("/v1/jobs", {"job_ids": ["job-2"]})
        responses = [await daemon.request("DELETE", f"/v1/jobs/job-{n}") for n in (1, 2)]
        still = (await daemon.get("/v1/jobs/job-2")).body["watched_by"]

    assert [response.problem for response in responses] == ["managed-by-config"] * 2
    settings = [
        response.body["detail"].removeprefix("watched because of ") for response in responses
    ]
    assert settings == ["POLLER_JOB_IDS", "POLLER_JOBS_FILE"]
    assert still == ["file", "api"]


async def test_jobs_remove_rejects_discovered_jobs(tmp_path: Path):
    """A discovered job cannot be removed: it would be discovered again."""
    changes = {"POLLER_JOB_IDS": "", "POLLER_DISCOVER": "on", "POLLER_DISCOVER_INTERVAL": "0.1s"}
    async with live_daemon(tmp_path, RUNS, **changes) as daemon:
        await daemon.wait_for_job("job-1", "RUNNING")
        shown = (await daemon.get("/v1/jobs/job-1")).body
        response = await daemon.request("DELETE", "/v1/jobs/job-1")

    assert shown["watched_by"] == ["discovery"]
    assert response.body["detail"] == "watched because of POLLER_DISCOVER"


async def test_jobs_can_be_empty_at_the_start(tmp_path: Path):
    """With the API set in the settings, no job is required at the start."""
    async with live_daemon(tmp_path, ENDS, POLLER_JOB_IDS="") as daemon:
        empty = (await daemon.get("/v1/jobs")).body
        await daemon.post("/v1/jobs", {"job_ids": ["job-2"]})
        await until(lambda: daemon.receiver.ends)

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
        b'{"job_ids": ["a,b"]}',
        b'{"job_ids": ["job-1"], "force": true}',
        b'{"job_ids": ["' + b"x" * 257 + b'"]}',
        b'{"job_ids": [' + b'"a",' * 1_000 + b'"a"]}',
    ],
    ids=lambda body: body[:24].decode(),
)
async def test_what_cannot_be_added(daemon: LiveDaemon, body: bytes):
    """An invalid body changes nothing; the problem has the place and the rule."""
    headers = {"Content-Type": "application/json"}
    response = await daemon.request("POST", "/v1/jobs", data=body, headers=headers)

    if body:
        assert response.problem == "invalid"
        assert response.body["errors"][0]["where"].startswith("body")
    assert response.status == 400
    assert daemon.app._watchlist.added == ()


async def test_jobs_problems_are_in_plain_words(daemon: LiveDaemon):
    """Problems are in plain words, not in those of a library."""
    details = {
        (await daemon.get(f"/v1/jobs?{query}")).body["detail"]
        for query in ("colour=red", "cursor=x")
    } | {
        (await daemon.post("/v1/jobs", body)).body["detail"]
        for body in ({"job_id": "a"}, {"job_ids": []}, {"job_ids": ["a"] * 1_001})
    }

    assert details == {
        "query/colour: is unknown",
        "query/cursor: has the wrong format",
        "body/job_ids: is required",
        "body/job_ids: must not be empty",
        "body/job_ids: has too many items",
    }


async def test_jobs_add_rejects_a_large_body(daemon: LiveDaemon):
    """A body above the limit is rejected."""
    response = await daemon.post("/v1/jobs", {"job_ids": ["x" * 300_000]})

    assert (response.status, response.problem) == (413, "too-large")


async def test_jobs_add_is_limited(daemon: LiveDaemon, monkeypatch):
    """The number of added jobs is limited."""
    monkeypatch.setattr(jobs, "MAX_ADDED_IDS", 2)

    responses = [await daemon.post("/v1/jobs", {"job_ids": [f"new-{n}"]}) for n in range(3)]

    assert [response.status for response in responses] == [200, 200, 409]
    assert responses[2].problem == "conflict"


async def test_jobs_pages(daemon: LiveDaemon):
    """Pages together have every job once, those without a response last."""
    await daemon.post("/v1/jobs", {"job_ids": [f"new-{n}" for n in range(5)]})
    await until(lambda: len(daemon.app._api.daemon.watcher.tracker.unseen_ids) == 5)

    found = await pages(daemon, "/v1/jobs?limit=3", "jobs")

    assert [len(page) for page in found] == [3, 3, 1]
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
async def test_jobs_filters(daemon: LiveDaemon, query: str, job_ids: list[str]):
    """Jobs are filtered by their state and by the time of their last change."""
    found = (await daemon.get(f"/v1/jobs?{query}")).body["jobs"]

    assert [job["job_id"] for job in found] == job_ids


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=101", "limit=x", "limit=", "limit=1&limit=2", "colour=red"),
        *("state=running", "state=", "since=yesterday", "since=2024-01-15T10:00:00"),
        *("cursor=", "cursor=x", "cursor=1_", "cursor=x_job-1", "cursor=%C3%BC"),
    ],
)
async def test_jobs_reject_invalid_queries(daemon: LiveDaemon, query: str):
    """Invalid parameters are rejected, not ignored."""
    response = await daemon.get(f"/v1/jobs?{query}")

    assert (response.status, response.problem) == (400, "invalid")


@pytest.mark.parametrize("job_id", ["x" * 257, "%C3%BC", "a%20b", "%2E%2E"])
async def test_jobs_show_rejects_invalid_ids(daemon: LiveDaemon, job_id: str):
    """An invalid id is a problem."""
    response = await daemon.get(f"/v1/jobs/{job_id}")

    assert response.problem in {"invalid", "not-found"}


async def test_jobs_have_any_valid_id(daemon: LiveDaemon):
    """The path of a job may have every character of an id, also braces."""
    job_id = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "\"',")
    added = await daemon.post("/v1/jobs", {"job_ids": [job_id]})
    path = f"/v1/jobs/{quote(job_id, safe='')}"
    shown = await daemon.get(path)
    removed = await daemon.request("DELETE", path)

    assert (added.status, shown.status, removed.status) == (200, 200, 204)


async def test_memory_store_serves_queries(tmp_path: Path):
    """With a store in memory, jobs can be added and listed, and so can events."""
    async with live_daemon(tmp_path, RUNS, ENDS, POLLER_STORE="memory:") as daemon:
        added = await daemon.post("/v1/jobs", {"job_ids": ["job-2"]})
        await until(lambda: "job-2" in daemon.receiver.ends)
        listed = await daemon.get("/v1/jobs")
        events = await daemon.get("/v1/events?job=job-2")

    assert added.status == 200
    assert "job-2" in {job["job_id"] for job in listed.body["jobs"]}
    assert [event["type"] for event in events.body["events"]] == ["job.succeeded"]
