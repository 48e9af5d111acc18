"""The packages of which images are built, fetched by this machine's pip and served on loopback.

The image does not depend on how this machine reaches the package index: the build sees a `pip.conf`
that points to loopback, and nothing else.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

from tests.deploy.programs import output
from tests.support.installed_wheel import PROJECT

DEBIAN: Final = ("--variant=minbase", "--include=python3,python3-venv,ca-certificates")
OLD_MIRROR: Final = '--aptopt=Acquire::Check-Valid-Until "false"'
"""An option for a mirror with the Debian of some weeks ago, which stays in the base."""
EXCLUDED_DOCS: Final = ("doc", "info", "locale", "man")
PINNED: Final = (
    "deploy/requirements.txt",
    "deploy/email.txt",
    "deploy/apprise.txt",
    "deploy/container/build.txt",
)
WHEEL_OPTIONS: Final = ("--python-version", "3.13", "--only-binary=:all:")
"""Options for the wheels of the base image's Python, independent of the Python of these tests."""

PIP_CONF: Final = """\
[global]
no-index = true
find-links = {url}
trusted-host = 127.0.0.1
"""


class QuietFileHandler(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def make_base(folder: Path) -> Path:
    """Create a Debian root with Python, as a tar archive."""
    archive = folder / "base.tar"
    spared = [f"--dpkgopt=path-exclude=/usr/share/{kind}/*" for kind in EXCLUDED_DOCS]
    output(
        ["mmdebstrap", "--quiet", OLD_MIRROR, *DEBIAN, *spared, "trixie", archive], within=1_200.0
    )
    return archive


def fetch(folder: Path) -> Path:
    """Fetch every package of the image, by its hash."""
    packages = folder / "shelf"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
    for pinned in PINNED:
        output([*pip, *WHEEL_OPTIONS, "--dest", packages, "-r", PROJECT / pinned], within=1_200.0)
    return packages


@contextmanager
def package_index(packages: Path) -> Iterator[Path]:
    """Serve a folder of packages on loopback, and yield a `pip.conf` for it."""
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(QuietFileHandler, directory=str(packages))
    ) as server:
        serving = Thread(target=server.serve_forever, name="shelf")
        serving.start()
        try:
            conf = packages / "pip.conf"
            conf.write_text(PIP_CONF.format(url=f"http://127.0.0.1:{server.server_port}/"), "utf-8")
            yield conf
        finally:
            server.shutdown()
            serving.join()
