"""Receivers whose 2xx is followed by what no HTTP library accepts: each event is sent once."""

from typing import Final

import anyio
import pytest
from aiohttp import web

from tests.support.builders import a_job_object
from tests.support.http_peers import BREAKING, peer
from tests.support.running_app import an_app, running_app, served

pytestmark = pytest.mark.virtual(limit=7_200.0)

ODD: Final = (
    "204 with a body",
    "Content-Length of letters",
    "chunks and a Content-Length",
    "closed in the header",
    "long header",
    "many headers",
    "short body",
    "space in a header name",
    "two Content-Lengths",
)


async def ended(_request: web.Request) -> web.Response:
    """Answer as an API whose job has ended."""
    return web.json_response({"job": a_job_object(job_id="job-1")})


@pytest.mark.parametrize("name", ODD)
async def test_event_is_sent_once_to_a_receiver_with_an_odd_2xx(name: str):
    """Within an hour a receiver that has said 2xx gets the event once, whatever it said then."""
    async with (
        served(ended) as api,
        peer(BREAKING[name]) as receiver,
        running_app(an_app(f"{api}/v1", receiver.base)),
    ):
        await anyio.sleep(3_600.0)

    assert len(receiver.requests) == 1
