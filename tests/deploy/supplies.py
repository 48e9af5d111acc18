"""What images are built from, fetched by this machine's pip and handed to the build on loopback.

How this machine comes to the package index is none of an image's business: the build sees a
`pip.conf` that points here, and nothing else.
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
UNREAD: Final = ("doc", "info", "locale", "man")
PINNED: Final = ("deploy/requirements.txt", "deploy/container/build.txt")
OF_DEBIAN: Final = ("--python-version", "3.11", "--only-binary=:all:")
"""The wheels for the Python of the base, whatever runs these tests."""

PIP_CONF: Final = """\
[global]
no-index = true
find-links = {url}
trusted-host = 127.0.0.1
"""


class Shelf(SimpleHTTPRequestHandler):
    """ManualClock out files, and does not talk about it."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def make_base(folder: Path) -> Path:
    """Make a Debian with Python of what Debian has now, as an archive of its root."""
    archive = folder / "base.tar"
    spared = [f"--dpkgopt=path-exclude=/usr/share/{it}/*" for it in UNREAD]
    output(["mmdebstrap", "--quiet", *DEBIAN, *spared, "bookworm", archive], within=300.0)
    return archive


def fetch(folder: Path) -> Path:
    """Fetch every package that an image is built from, by its hash."""
    shelf = folder / "shelf"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
    for pinned in PINNED:
        output([*pip, *OF_DEBIAN, "--dest", shelf, "-r", PROJECT / pinned], within=300.0)
    return shelf


@contextmanager
def served(shelf: Path) -> Iterator[Path]:
    """Serve a folder of packages on loopback, and give the `pip.conf` that takes them there."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Shelf, directory=str(shelf))) as server:
        serving = Thread(target=server.serve_forever, name="shelf")
        serving.start()
        try:
            conf = shelf / "pip.conf"
            conf.write_text(PIP_CONF.format(url=f"http://127.0.0.1:{server.server_port}/"), "utf-8")
            yield conf
        finally:
            server.shutdown()
            serving.join()
