"""Fixtures of the tests that run the installed command."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.daemon_process import Place, a_place
from tests.support.installed_wheel import install_example


@pytest.fixture
def command_with_example(command: Path, tmp_path: Path) -> Path:
    """Return the `sutro-poller` of a venv that has the example sink too."""
    return install_example(command, tmp_path)


@pytest.fixture
async def place(command: Path, tmp_path: Path) -> AsyncIterator[Place]:
    """Yield what a daemon needs to run; fail if it wrote a secret anywhere."""
    async with a_place(command, tmp_path / "place") as opened:
        yield opened
