"""Fixtures of the fault injection tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import structlog

from tests.support.daemon_process import Place, a_place


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as slow, and measure no coverage: that doubles their time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture
async def place(command: Path, tmp_path: Path) -> AsyncIterator[Place]:
    """Yield what a daemon needs to run; fail if it wrote a secret anywhere."""
    async with a_place(command, tmp_path / "place") as opened:
        yield opened


@pytest.fixture
def quiet() -> Iterator[None]:
    """Drop every log line of this process, of which virtual days write millions."""
    structlog.configure(processors=[_drop])
    yield
    structlog.reset_defaults()


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent
