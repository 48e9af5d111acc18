"""Single requests through a session, each with a key that nobody must see."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import pytest

from poller.runtime.http import HttpClient, NoResponse, OutboundSettings, Response

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
    """Make one request."""
    return await http.request("GET", url, headers={"Authorization": KEY}, cap=cap)


async def failure(url: str, outbound: OutboundSettings | None = None, *, limit: float = 5.0) -> str:
    """Make one request that must fail; give what is said of it."""
    async with session(outbound, limit=limit) as http:
        with pytest.raises(NoResponse) as caught:
            await get(http, url)
    return str(caught.value)


async def fails(http: HttpClient, url: str, ended: list[float]) -> None:
    """Make one request that must fail, and note when it has."""
    with pytest.raises(NoResponse):
        await get(http, url)
    ended.append(anyio.current_time())
