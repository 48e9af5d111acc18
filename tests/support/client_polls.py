"""Polls of the documented job, through a client and a fake server."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from pydantic import SecretStr

from poller.core.counters import Counters
from poller.core.errors import PollError
from poller.core.jobs import Job
from poller.runtime.http_client import HttpClient
from poller.runtime.http_values import OutboundSettings
from poller.sutro.client import SutroClient
from tests.support.builders import a_job_object
from tests.support.http_peers import ConnectionHandler, peer

KEY: Final = "sk_canary"
JOB: Final = "job-12345"
NOW: Final = 1_705_314_600.0
DATE: Final = "Mon, 15 Jan 2024 10:30:00 GMT"
REFUSED: Final = b'{"message": "The API key is not valid."}'
UNKNOWN: Final = b'{"message": "No job found with ID job-12345"}'


def body(**fields: Any) -> bytes:
    """Return the documented response, with some fields of the job changed."""
    return json.dumps({"job": a_job_object(**fields)}).encode()


@asynccontextmanager
async def client(
    base: str, key: str = KEY, counts: Counters | None = None
) -> AsyncIterator[SutroClient]:
    """Open a client of the API at a base URL."""
    async with HttpClient(OutboundSettings(), timeout=30.0, limit=16) as http:
        yield SutroClient(
            http, base=base, key=lambda: SecretStr(key), now=lambda: NOW, counts=counts
        )


async def poll(handler: ConnectionHandler) -> Job:
    """Poll the documented job."""
    async with peer(handler) as server, client(f"{server.base}/v1") as api:
        return await api.get_job(JOB)


async def poll_error(handler: ConnectionHandler) -> PollError:
    """Poll the documented job, and return the error that this must raise."""
    async with peer(handler) as server, client(f"{server.base}/v1") as api:
        with pytest.raises(PollError) as caught:
            await api.get_job(JOB)
    return caught.value
