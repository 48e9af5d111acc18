"""The wheel as users install it: built from this tree and installed into a venv."""

import fcntl
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[2]


def installed(root: Path) -> Path:
    """Build and install the wheel once below a folder, and return the venv."""
    folder = root / "installed"
    with (root / "installed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            install(folder, build(PROJECT, root))
    return folder


def build(project: Path, out: Path) -> Path:
    """Build the wheel of a project."""
    _python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(project))
    (wheel,) = out.glob("*.whl")
    return wheel


def install(folder: Path, *wheels: Path) -> None:
    """Install wheels into a venv that finds every other package where these tests find it."""
    venv.create(folder, symlinks=True)
    packages = sysconfig.get_path("purelib", "venv", vars={"base": str(folder)})
    # The paths of a .pth file come after the venv's own packages, and .pth files there, such
    # as that of an editable install, are not read.
    Path(packages, "theirs.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    python = str(folder / "bin" / "python")
    names = map(str, wheels)
    _python("-m", "pip", "--python", python, "install", "--no-deps", "--no-index", *names)


def install_example(command: Path, folder: Path) -> Path:
    """Install the wheel of a command and the example sink; return the new command."""
    (wheel,) = command.parents[2].glob("*.whl")
    both = folder / "with_example"
    install(both, wheel, build(PROJECT / "tests" / "example_sink", folder / "wheels"))
    return both / "bin" / "sutro-poller"


def _python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=300)
