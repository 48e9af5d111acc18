"""A store of each kind, opened, and the clock by which it goes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from poller.store.memory import MemoryStore
from poller.store.sqlite import SqliteStore
from tests.support.store_builders import ROUTES, AnyStore, Hands, a_store


@pytest.fixture
def now() -> Hands:
    """Give a clock that stands at noon."""
    return Hands()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a place for a database."""
    return tmp_path / "state.db"


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, path: Path, now: Hands) -> AsyncIterator[AnyStore]:
    """Give a store of each kind in turn, opened."""
    in_memory = MemoryStore(routes=ROUTES, deployment="api.sutro.sh", now=now)
    async with a_store(path, now) if request.param == "sqlite" else in_memory as opened:
        yield opened


@pytest.fixture
async def disk(path: Path, now: Hands) -> AsyncIterator[SqliteStore]:
    """Give a store on disk, opened."""
    async with a_store(path, now) as opened:
        yield opened
