"""What witness tests share: programs of others, each in a venv of its own, and who runs them."""

import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.conftest import place
from tests.sdk_compat.sdk_process import Witness
from tests.sdk_compat.uv_tool import ToolRunner
from tests.support.daemon_process import Place

__all__ = ["place"]

SDK = "sutro==0.1.67"
UV = "uv==0.13.9"


@contextmanager
def fetched(package: str) -> Iterator[Path]:
    """Give the folder of programs of a venv with a package of PyPI; it is gone afterwards."""
    with TemporaryDirectory(prefix="sutro-witness-") as folder:
        venv.create(folder, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder]
        # Nothing is built: wheels alone, so that installing runs no code.
        arguments = ["install", "--quiet", "--only-binary=:all:", package]
        subprocess.run([*pip, *arguments], check=True, timeout=600)
        yield Path(folder, "bin")


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    """Give the folder of programs of a venv with the SDK."""
    with fetched(SDK) as folder:
        yield folder


@pytest.fixture
def witness(programs: Path, place: Place) -> Witness:
    """Give the SDK, pointed to the simulator that the daemon watches."""
    return Witness(programs, place)


@pytest.fixture(scope="session")
def tool_runner(command: Path) -> Iterator[ToolRunner]:
    """Give uv and the wheel, with a home, a cache and tools that are gone after this test run."""
    (wheel,) = command.parents[2].glob("*.whl")
    with fetched(UV) as folder, TemporaryDirectory(prefix="sutro-home-") as home:
        yield ToolRunner(folder / "uv", wheel, Path(home))
