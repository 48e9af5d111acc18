"""Fixtures of the tests with third-party programs, each in a venv of its own."""

import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.conftest import place
from tests.sdk_compat.sdk_process import SdkClient
from tests.sdk_compat.uv_tool import ToolRunner
from tests.support.daemon_process import Place

__all__ = ["place"]

SDK = "sutro==0.1.67"
UV = "uv==0.13.9"


@contextmanager
def fetched(package: str) -> Iterator[Path]:
    """Yield the programs of a venv with a package of PyPI; remove it afterwards."""
    with TemporaryDirectory(prefix="sutro-sdk-") as folder:
        venv.create(folder, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder]
        # Nothing is built: wheels alone, so that the installation runs no code.
        arguments = ["install", "--quiet", "--only-binary=:all:", package]
        subprocess.run([*pip, *arguments], check=True, timeout=600)
        yield Path(folder, "bin")


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    """Yield the folder of programs of a venv with the SDK."""
    with fetched(SDK) as folder:
        yield folder


@pytest.fixture
def sdk(programs: Path, place: Place) -> SdkClient:
    """Return the SDK, configured for the simulator that the daemon polls."""
    return SdkClient(programs, place)


@pytest.fixture(scope="session")
def tool_runner(command: Path) -> Iterator[ToolRunner]:
    """Yield uv and the wheel, with a home, a cache and tools that are removed afterwards."""
    (wheel,) = command.parents[2].glob("*.whl")
    with fetched(UV) as folder, TemporaryDirectory(prefix="sutro-home-") as home:
        yield ToolRunner(folder / "uv", wheel, Path(home))
