"""A page of the account's jobs."""

import json
from typing import Any

import pytest

from poller.errors import MalformedAnswer, NotFound
from poller.sutro.client import JOB_CAP, Page
from poller.sutro.script import Script
from poller.sutro.simulator import Simulator, serve
from tests.border.looks import client
from tests.border.peers import answers, peer
from tests.support import a_job_object


async def listed(body: Any, **query: Any) -> tuple[Page, str]:
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

    assert page == Page((), None)


async def test_an_odd_id_is_nobody_who_is_known():
    """An id that cannot even be looked up is left out of its page like any other odd job."""
    page, _ = await listed({"jobs": [{"job_id": []}, a_job_object()]}, known={}.get)

    assert [job.job_id for job in page.jobs] == ["job-12345"]


async def test_an_odd_job_does_not_hide_the_others():
    """A job that cannot be read is left out of its page."""
    page, _ = await listed({"jobs": [a_job_object(), {"job_id": "../x"}, 5, {}]})

    assert [job.job_id for job in page.jobs] == ["job-12345"]


@pytest.mark.parametrize("body", [{}, {"jobs": None}, {"jobs": {"job-1": {}}}])
async def test_a_page_without_a_list_is_malformed(body: object):
    """An object that has no list of jobs is not the API's page."""
    talk = answers(200, json.dumps(body).encode())
    async with peer(talk) as it, client(f"{it.base}/v1") as api:
        with pytest.raises(MalformedAnswer, match="no list of jobs"):
            await api.list_jobs(limit=1)


async def test_a_page_may_be_larger_than_a_job():
    """A page of many large jobs is read where a single job of that size would not be."""
    page, _ = await listed({"jobs": [a_job_object(system_prompt="x" * JOB_CAP)]})

    assert len(page.jobs) == 1


async def test_pages_of_the_simulator_are_walked_by_their_cursors():
    """Newest first, each job once, under the prefix that was found by the way."""
    simulator = Simulator(key="sk_canary")
    for number in range(5):
        simulator.add(Script(job_id=f"job-{number}"))
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
