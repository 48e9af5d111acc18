"""Jobs whose object is over the size limit: their end and their cost are reported all the same."""

import json
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from aiohttp import web

from poller.sutro.client import JOB_BYTES_CAP
from tests.support.builders import a_job_object
from tests.support.running_app import Receiver, an_app, running_app, served

pytestmark = pytest.mark.virtual(limit=90_000.0)
RUNNING = {"status": "RUNNING", "datetime_completed": None, "job_cost": None, "input_tokens": None}
LARGE = {"system_prompt": "x" * JOB_BYTES_CAP}


@dataclass
class Api:
    """An API of one job, whose `extra` fields make it large."""

    has_status: bool
    fields: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        job = a_job_object(job_id="job-1", **self.fields)
        if "/job-status/" in request.path:
            if not self.has_status:
                return web.json_response({"message": "Not Found"}, status=404)
            return web.json_response({"job_status": {"job-1": job["status"]}})
        body = {"jobs": [job | self.extra], "next_cursor": None}
        if "/jobs/" in request.path:
            body = {"job": job | self.extra}
        return web.Response(text=json.dumps(body), content_type="application/json")


async def test_large_job_ends_in_time_and_its_cost_follows():
    """The end is reported by the status alone, and the cost once the object is small enough."""
    api, receiver = Api(has_status=True, fields=RUNNING), Receiver()
    variables = {"POLLER_LIST_PAGES": "off", "POLLER_WEBHOOK_EVENTS": "*"}
    async with (
        served(api.handle) as url,
        served(receiver.take) as hook,
        running_app(an_app(f"{url}/v1", hook, **variables)),
    ):
        await anyio.sleep(120.0)
        api.fields, api.extra = {}, LARGE
        await anyio.sleep(300.0)
        api.extra = {}
        await anyio.sleep(3_600.0)

    assert receiver.types == ["job.started", "job.succeeded", "job.settled"]
    _, end, settled = (event["data"] for event in receiver.events)
    assert (end["final"], end["job"]["model"]) == (False, a_job_object()["model"])
    assert settled["job"]["job_cost"] == a_job_object()["job_cost"]


async def test_large_job_ends_in_time_without_a_status_endpoint():
    """Where there is no status alone, a page of the list shows the end with all its fields."""
    api, receiver = Api(has_status=False, fields=RUNNING, extra=LARGE), Receiver()
    async with (
        served(api.handle) as url,
        served(receiver.take) as hook,
        running_app(an_app(f"{url}/v1", hook)),
    ):
        await anyio.sleep(300.0)
        api.fields = {}
        await anyio.sleep(600.0)

    (end,) = receiver.events
    assert (end["type"], end["data"]["final"]) == ("job.succeeded", True)
