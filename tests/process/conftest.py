"""What process tests share: the installed wheel, and a place to run it that keeps no secret."""

import fcntl
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from poller.sutro.simulator import Simulator, serve
from tests.process.canaries import KEY, leaks
from tests.process.daemon import Place
from tests.process.receiver import Receiver, listening

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the `sutro-poller` of a wheel that was built and installed once for this test run."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / "installed"
    with (root / "installed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _install(folder, _build(PROJECT, root))
    return folder / "bin" / "sutro-poller"


@pytest.fixture
def command_with_example(command: Path, tmp_path: Path) -> Path:
    """Give the `sutro-poller` of a venv of its own, in which the example of a sink is as well."""
    (wheel,) = command.parents[2].glob("*.whl")
    folder = tmp_path / "with_example"
    _install(folder, wheel, _build(PROJECT / "tests" / "example_sink", tmp_path / "wheels"))
    return folder / "bin" / "sutro-poller"


def _build(project: Path, out: Path) -> Path:
    _python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(project))
    (wheel,) = out.glob("*.whl")
    return wheel


def _install(folder: Path, *wheels: Path) -> None:
    """Install wheels into a venv that finds everything else where these tests find it."""
    venv.create(folder, symlinks=True)
    packages = sysconfig.get_path("purelib", "venv", vars={"base": str(folder)})
    # What a .pth file names comes behind the venv's own packages, and its own .pth files, such
    # as that of an editable install, are not read.
    Path(packages, "theirs.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    python = str(folder / "bin" / "python")
    names = map(str, wheels)
    _python("-m", "pip", "--python", python, "install", "--no-deps", "--no-index", *names)


def _python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=120)


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
