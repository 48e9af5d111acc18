"""A page of the account's jobs."""

import json
import tracemalloc
from typing import Any

import pytest

from poller.core.counters import Counters
from poller.core.errors import MalformedResponse, WrongEndpoint
from poller.core.parsing import parse_job
from poller.runtime.http_values import Response
from poller.sutro.client import JOB_BYTES_CAP, PAGE_BYTES_CAP, JobPage
from poller.sutro.decoding import decode
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.support.builders import a_job_object
from tests.support.client_polls import client
from tests.support.http_peers import peer, responds


async def listed(body: Any, **query: Any) -> tuple[JobPage, str]:
    """Request a page from a peer; return it, and the line of the request."""
    async with peer(responds(200, json.dumps(body).encode())) as it, client(f"{it.base}/v1") as api:
        page = await api.list_jobs(**{"limit": 1} | query)
        return page, it.lines[0]


async def test_page_request_has_a_limit():
    """Without a cursor only the limit is sent, and the page has the cursor of the next one."""
    page, line = await listed({"jobs": [a_job_object()], "next_cursor": "more"})

    assert line == "GET /v1/list-jobs?limit=1 HTTP/1.1"
    assert [job.job_id for job in page.jobs] == ["job-12345"]
    assert page.next_cursor == "more"


async def test_cursor_is_sent_unchanged():
    """Whatever stands in a cursor, it cannot change the rest of the URL."""
    _, line = await listed({"jobs": []}, limit=100, cursor="a=&b/?#")

    assert line == "GET /v1/list-jobs?limit=100&cursor=a%3D%26b%2F%3F%23 HTTP/1.1"


@pytest.mark.parametrize("following", [None, 5, {}])
async def test_last_page_has_no_cursor(following: object):
    """A null, or a cursor that is no text, means that there is no further page."""
    page, _ = await listed({"jobs": [], "next_cursor": following})

    assert page == JobPage((), None)


async def test_page_leaves_out_an_unreadable_job(capsys):
    """A job that cannot be parsed is left out of its page, counted, and logged once a kind."""
    odd = [
        {"job_id": "a b", "status": "RUNNING"},
        {"job_id": "job-1"},
        {"job_id": []},
        {"job_id": {}},
        {"job_id": None},
        5,
        {},
        None,
    ]
    talk, counts = responds(200, json.dumps({"jobs": [*odd, a_job_object()]}).encode()), Counters()
    async with peer(talk) as it, client(f"{it.base}/v1", counts=counts) as api:
        pages = [await api.list_jobs(limit=100, known={}.get) for _ in range(2)]

    assert [[job.job_id for job in page.jobs] for page in pages] == [["job-12345"]] * 2
    assert counts.unreadable_rows == 2 * len(odd)
    assert capsys.readouterr().out.count("listing.unreadable_job") == 3


async def test_unchanged_job_of_a_page_is_not_parsed():
    """A job that has not changed is the known one; one that has is parsed."""
    going = parse_job(a_job_object(status="RUNNING", datetime_completed=None))
    shown = a_job_object(status="RUNNING", datetime_completed=None, output_tokens=9_999)

    page, _ = await listed({"jobs": [shown]}, known={going.job_id: going}.get)
    moved, _ = await listed({"jobs": [a_job_object()]}, known={going.job_id: going}.get)

    assert page.jobs[0] is going
    assert moved.jobs == (parse_job(a_job_object()),)


@pytest.mark.parametrize("body", [{}, {"jobs": None}, {"jobs": {"job-1": {}}}])
async def test_page_without_a_list_is_malformed(body: object):
    """An object that has no list of jobs is not the API's page."""
    talk = responds(200, json.dumps(body).encode())
    async with peer(talk) as it, client(f"{it.base}/v1") as api:
        with pytest.raises(MalformedResponse, match="no list of jobs"):
            await api.list_jobs(limit=1)


async def test_page_may_be_larger_than_a_job():
    """A page of many large jobs is read where a single job of that size would not be."""
    page, _ = await listed({"jobs": [a_job_object(system_prompt="x" * JOB_BYTES_CAP)]})

    assert len(page.jobs) == 1


async def test_pages_of_the_simulator_follow_their_cursors():
    """Newest first, each job once, under the prefix that was found by the way."""
    simulator = Simulator(key="sk_canary")
    for number in range(5):
        simulator.add(JobScript(job_id=f"job-{number}"))
    seen, cursor = [], None
    async with serve(simulator) as base, client(base) as api:
        while True:
            page = await api.list_jobs(limit=2, cursor=cursor)
            seen += [job.job_id for job in page.jobs]
            if (cursor := page.next_cursor) is None:
                break

    assert seen == ["job-4", "job-3", "job-2", "job-1", "job-0"]


async def test_api_without_a_list_is_an_error():
    """A 404 to a list names no job, so it is nobody's in particular."""
    body = b'{"message": "no such route"}'
    async with peer(responds(404, body)) as it, client(f"{it.base}/v1") as api:
        with pytest.raises(WrongEndpoint):
            await api.list_jobs(limit=1)


async def test_large_jobs_cost_no_more_memory_than_their_page():
    """Of a page of long prompts only the needed fields are created: no further memory is used."""
    fat = a_job_object(system_prompt="You are a helpful assistant. " * 2_000)
    response = Response(200, {}, json.dumps({"jobs": [fat] * 100}).encode(), is_truncated=False)

    tracemalloc.start()
    try:
        page = decode(response, "list", PAGE_BYTES_CAP)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(response.body) > 5_000_000
    assert [it["job_id"] for it in page["jobs"]] == ["job-12345"] * 100
    assert most < 500_000


@pytest.mark.parametrize("odd", [b"NaN", b"1e999", b'"\\ud800"', b'"\xff"', b"9" * 5_000])
async def test_odd_value_does_not_hide_other_fields(odd: bytes):
    """Whatever one job's cost is, the page and that job's other fields are read."""
    text = json.dumps({"jobs": [a_job_object(job_cost=0), a_job_object()]}).encode()
    response = Response(
        200, {}, text.replace(b'"job_cost": 0,', b'"job_cost": %b,' % odd), is_truncated=False
    )

    page = decode(response, "list", PAGE_BYTES_CAP)

    assert odd in response.body
    assert parse_job(page["jobs"][0]).job_cost is None
    assert parse_job(page["jobs"][0]).status is parse_job(page["jobs"][1]).status
