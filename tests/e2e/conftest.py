"""What process tests share: a place to run the product, which keeps no secret."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.daemon_process import Place, a_place
from tests.support.installed_wheel import install_example


@pytest.fixture
def command_with_example(command: Path, tmp_path: Path) -> Path:
    """Give the `sutro-poller` of a venv of its own, in which the example of a sink is as well."""
    return install_example(command, tmp_path)


@pytest.fixture
async def place(command: Path, tmp_path: Path) -> AsyncIterator[Place]:
    """Give a place to run the product, and look afterwards for secrets in all that it wrote."""
    async with a_place(command, tmp_path / "place") as it:
        yield it
