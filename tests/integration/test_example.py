"""The documented example, from the response of the API to the bytes of the webhook."""

from datetime import UTC, datetime
from email.utils import formatdate

import anyio
import pytest
from aiohttp import web

from tests.support.builders import GOLDEN, a_job_object
from tests.support.running_app import KEY, Receiver, an_app, running_app, served
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=600.0)


async def test_documented_example_becomes_the_documented_event():
    """The API's example job, running and then ended, is one verified webhook, to the byte."""
    responses = [
        a_job_object(status="running", datetime_completed=None, job_cost=None),
        a_job_object(),
    ]

    async def api(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Key {KEY}"
        assert request.path == "/v1/jobs/job-12345"
        headers = {"Date": formatdate(clock.steady(), usegmt=True)}
        return web.json_response({"job": responses.pop(0)}, headers=headers)

    receiver = Receiver()
    clock = virtual_clock(datetime(2024, 1, 15, 10, 32, 7, 120_500, UTC))
    pace = {"POLLER_MIN_INTERVAL": "10s", "POLLER_MAX_INTERVAL": "10s"}
    async with served(api) as url, served(receiver.take) as hook:
        app = an_app(url, hook, clock=clock, POLLER_JOB_IDS="job-12345", **pace)
        async with running_app(app):
            await anyio.sleep(20.0)

    golden = (GOLDEN / "job-12345.succeeded.json").read_bytes().strip()
    [(_, _, body)] = receiver.got
    assert body == golden.replace(b"api.sutro.sh", url.removeprefix("http://").encode())
