"""What process tests share: a place to run the product, which keeps no secret."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from poller.sutro.simulator import Simulator, serve
from tests.installed import PROJECT, build, install
from tests.process.canaries import KEY, leaks
from tests.process.daemon import Place
from tests.process.receiver import Receiver, listening


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
    folder = tmp_path / "place"
    (folder / "state").mkdir(parents=True)
    api = Simulator(key=KEY)
    async with serve(api) as api_url, listening(Receiver()) as receiver:
        yield Place(command, folder, api, api_url, receiver)
    assert not receiver.troubles
    assert not leaks(folder)
