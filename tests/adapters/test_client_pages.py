"""A page of the account's jobs."""

import json
import tracemalloc
from typing import Any

import pytest

from poller.core.errors import MalformedResponse, NotFound
from poller.core.parsing import parse_job
from poller.runtime.http import Response
from poller.sutro.client import JOB_BYTES_CAP, PAGE_BYTES_CAP, JobPage
from poller.sutro.decoding import decode
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.support.builders import a_job_object
from tests.support.client_polls import client
from tests.support.http_peers import answers, peer


async def listed(body: Any, **query: Any) -> tuple[JobPage, str]:
    """Ask a peer for a page; give it, and the line of the request."""
    async with peer(answers(200, json.dumps(body).encode())) as it, client(f"{it.base}/v1") as api:
        page = await api.list_jobs(**{"limit": 1} | query)
        return page, it.lines[0]


async def test_a_page_is_asked_for_by_its_size():
    """Without a cursor only the limit is sent, and the page tells where the next one begins."""
    page, line = await listed({"jobs": [a_job_object()], "next_cursor": "more"})

    assert line == "GET /v1/list-jobs?limit=1 HTTP/1.1"
    assert [job.job_id for job in page.jobs] == ["job-12345"]
    assert page.next_cursor == "more"


async def test_a_cursor_is_sent_as_it_was_given():
    """Whatever stands in a cursor, it cannot change the rest of the URL."""
    _, line = await listed({"jobs": []}, limit=100, cursor="a=&b/?#")

    assert line == "GET /v1/list-jobs?limit=100&cursor=a%3D%26b/?%23 HTTP/1.1"


@pytest.mark.parametrize("following", [None, 5, {}])
async def test_the_last_page_has_no_cursor(following: object):
    """A null, or what is no text, means that there is no further page."""
    page, _ = await listed({"jobs": [], "next_cursor": following})

    assert page == JobPage((), None)


async def test_an_odd_job_does_not_hide_the_others():
    """A job that cannot be read is left out of its page."""
    odd = [{"job_id": "../x"}, {"job_id": []}, {"job_id": {}}, {"job_id": None}, 5, {}, None]
    page, _ = await listed({"jobs": [*odd, a_job_object()]}, known={}.get)

    assert [job.job_id for job in page.jobs] == ["job-12345"]


async def test_a_job_that_stands_is_not_read_anew():
    """A job that goes on as it is known is given as that; one that has moved is read."""
    going = parse_job(a_job_object(status="RUNNING", datetime_completed=None))
    shown = a_job_object(status="RUNNING", datetime_completed=None, output_tokens=9_999)

    page, _ = await listed({"jobs": [shown]}, known={going.job_id: going}.get)
    moved, _ = await listed({"jobs": [a_job_object()]}, known={going.job_id: going}.get)

    assert page.jobs[0] is going
    assert moved.jobs == (parse_job(a_job_object()),)


@pytest.mark.parametrize("body", [{}, {"jobs": None}, {"jobs": {"job-1": {}}}])
async def test_a_page_without_a_list_is_malformed(body: object):
    """An object that has no list of jobs is not the API's page."""
    talk = answers(200, json.dumps(body).encode())
    async with peer(talk) as it, client(f"{it.base}/v1") as api:
        with pytest.raises(MalformedResponse, match="no list of jobs"):
            await api.list_jobs(limit=1)


async def test_a_page_may_be_larger_than_a_job():
    """A page of many large jobs is read where a single job of that size would not be."""
    page, _ = await listed({"jobs": [a_job_object(system_prompt="x" * JOB_BYTES_CAP)]})

    assert len(page.jobs) == 1


async def test_pages_of_the_simulator_are_walked_by_their_cursors():
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


async def test_an_api_without_lists_is_an_error():
    """The API's 404 to a list is told as such."""
    body = b'{"message": "no such route"}'
    async with peer(answers(404, body)) as it, client(f"{it.base}/v1") as api:
        with pytest.raises(NotFound):
            await api.list_jobs(limit=1)


async def test_fat_jobs_cost_no_more_than_their_page():
    """Of a page of long prompts only what is needed is made: it is read in no further memory."""
    fat = a_job_object(system_prompt="You are a helpful assistant. " * 2_000)
    answer = Response(200, {}, json.dumps({"jobs": [fat] * 100}).encode(), is_truncated=False)

    tracemalloc.start()
    try:
        page = decode(answer, "list", PAGE_BYTES_CAP)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(answer.body) > 5_000_000
    assert [it["job_id"] for it in page["jobs"]] == ["job-12345"] * 100
    assert most < 500_000


@pytest.mark.parametrize("odd", [b"NaN", b"1e999", b'"\\ud800"', b'"\xff"', b"9" * 5_000])
async def test_an_odd_value_is_read_around(odd: bytes):
    """Whatever one job's cost is, the page and that job's other fields are read."""
    text = json.dumps({"jobs": [a_job_object(job_cost=0), a_job_object()]}).encode()
    answer = Response(
        200, {}, text.replace(b'"job_cost": 0,', b'"job_cost": %b,' % odd), is_truncated=False
    )

    page = decode(answer, "list", PAGE_BYTES_CAP)

    assert odd in answer.body
    assert parse_job(page["jobs"][0]).job_cost is None
    assert parse_job(page["jobs"][0]).status is parse_job(page["jobs"][1]).status
