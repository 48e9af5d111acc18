"""What witness tests share: the official SDK in a venv of its own, and who asks it."""

import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.process.conftest import place
from tests.process.daemon import Place
from tests.witness.visits import Witness

__all__ = ["command", "place"]

SDK = "sutro==0.1.67"


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    """Give the folder of programs of a venv with the SDK, which is gone after this test run."""
    with TemporaryDirectory(prefix="sutro-sdk-") as folder:
        venv.create(folder, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder]
        # Nothing is built: wheels alone, so that installing runs no code.
        arguments = ["install", "--quiet", "--only-binary=:all:", SDK]
        subprocess.run([*pip, *arguments], check=True, timeout=600)
        yield Path(folder, "bin")


@pytest.fixture
def witness(programs: Path, place: Place) -> Witness:
    """Give the SDK, pointed to the simulator that the daemon watches."""
    return Witness(programs, place)
