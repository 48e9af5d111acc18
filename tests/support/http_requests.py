"""Single requests through a session, each with a secret API key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import pytest

from poller.runtime.http_client import HttpClient
from poller.runtime.http_values import NoResponse, OutboundSettings, Response

KEY = "Key sk_canary"
CAP = 4 * 1024 * 1024
NOW = datetime.now(UTC)
DATE = "Mon, 15 Jan 2024 10:30:00 GMT"


@asynccontextmanager
async def session(
    outbound: OutboundSettings | None = None, *, limit: float = 30.0
) -> AsyncIterator[HttpClient]:
    """Open a session."""
    async with HttpClient(outbound or OutboundSettings(), timeout=limit, limit=16) as http:
        yield http


async def get(http: HttpClient, url: str, *, cap: int = CAP) -> Response:
    """Send one request."""
    return await http.request("GET", url, headers={"Authorization": KEY}, cap=cap)


async def failure(url: str, outbound: OutboundSettings | None = None, *, limit: float = 5.0) -> str:
    """Send one request that must fail; return the error message."""
    async with session(outbound, limit=limit) as http:
        with pytest.raises(NoResponse) as caught:
            await get(http, url)
    return str(caught.value)


async def fails(http: HttpClient, url: str, ended: list[float]) -> None:
    """Send one request that must fail, and record the time of its end."""
    with pytest.raises(NoResponse):
        await get(http, url)
    ended.append(anyio.current_time())
