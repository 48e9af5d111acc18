"""The source distribution: it is the whole repository, and builds the same wheel."""

import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.installed_wheel import PROJECT, build


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked source distribution of this tree."""
    folder = tmp_path_factory.mktemp("sdist")
    command = ["-m", "build", "--sdist", "--no-isolation", "--outdir", str(folder), str(PROJECT)]
    subprocess.run([sys.executable, *command], check=True, capture_output=True, timeout=300)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


@pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="this is no clone")
def test_sdist_has_every_file(sdist: Path):
    """The source distribution has each file of the repository, and its metadata."""
    listing = ["git", "-C", PROJECT, "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, check=True, capture_output=True, text=True, timeout=120)
    files = {path for path in listed.stdout.splitlines() if (PROJECT / path).exists()}
    packed = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}

    assert packed == files | {"PKG-INFO"}


def test_sdist_builds_the_same_wheel(sdist: Path, command: Path, tmp_path: Path):
    """A wheel that is built from the source distribution has the files of one from the tree."""
    (wheel,) = command.parents[2].glob("*.whl")

    assert contents(build(sdist, tmp_path)) == contents(wheel)


def contents(wheel: Path) -> dict[str, int]:
    """Return the name and the checksum of each file of a wheel."""
    with ZipFile(wheel) as archive:
        return {file.filename: file.CRC for file in archive.infolist()}
