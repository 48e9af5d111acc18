"""Single requests through a session, each with a key that nobody must see."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import pytest

from poller.runtime.http import Answer, Egress, Http, NoAnswer

KEY = "Key sk_canary"
CAP = 4 * 1024 * 1024
NOW = datetime.now(UTC)
DATE = "Mon, 15 Jan 2024 10:30:00 GMT"


@asynccontextmanager
async def session(egress: Egress | None = None, *, limit: float = 30.0) -> AsyncIterator[Http]:
    """Open a session."""
    async with Http(egress or Egress(), timeout=limit, limit=16) as http:
        yield http


async def get(http: Http, url: str, *, cap: int = CAP) -> Answer:
    """Make one request."""
    return await http.exchange("GET", url, headers={"Authorization": KEY}, cap=cap)


async def failure(url: str, egress: Egress | None = None, *, limit: float = 5.0) -> str:
    """Make one request that must fail; give what is said of it."""
    async with session(egress, limit=limit) as http:
        with pytest.raises(NoAnswer) as caught:
            await get(http, url)
    return str(caught.value)


async def fails(http: Http, url: str, ended: list[float]) -> None:
    """Make one request that must fail, and note when it has."""
    with pytest.raises(NoAnswer):
        await get(http, url)
    ended.append(anyio.current_time())
