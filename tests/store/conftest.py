"""An open store of each kind, and its clock."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from poller.store.memory import MemoryStore
from poller.store.sqlite import SqliteStore
from tests.support.store_builders import ROUTES, AnyStore, ManualClock, a_store


@pytest.fixture
def now() -> ManualClock:
    """Return a clock that stands at noon."""
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database that does not exist yet."""
    return tmp_path / "state.db"


@pytest.fixture(params=["memory", "sqlite"])
async def store(
    request: pytest.FixtureRequest, path: Path, now: ManualClock
) -> AsyncIterator[AnyStore]:
    """Open a store of each kind in turn."""
    in_memory = MemoryStore(routes=ROUTES, deployment="api.sutro.sh", now=now)
    async with a_store(path, now) if request.param == "sqlite" else in_memory as opened:
        yield opened


@pytest.fixture
async def disk(path: Path, now: ManualClock) -> AsyncIterator[SqliteStore]:
    """Open a store on disk."""
    async with a_store(path, now) as opened:
        yield opened
