"""What process tests share: a place to run the product, which keeps no secret."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.daemon_process import Place, a_place
from tests.support.installed_wheel import PROJECT, build, install


@pytest.fixture
def command_with_example(command: Path, tmp_path: Path) -> Path:
    """Give the `sutro-poller` of a venv of its own, in which the example of a sink is as well."""
    (wheel,) = command.parents[2].glob("*.whl")
    folder = tmp_path / "with_example"
    install(folder, wheel, build(PROJECT / "tests" / "example_sink", tmp_path / "wheels"))
    return folder / "bin" / "sutro-poller"


@pytest.fixture
async def place(command: Path, tmp_path: Path) -> AsyncIterator[Place]:
    """Give a place to run the product, and look afterwards for secrets in all that it wrote."""
    async with a_place(command, tmp_path / "place") as it:
        yield it
