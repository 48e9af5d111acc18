"""What the tests of the loops have: a silent log, since virtual weeks fill it, and a slow disk."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest
import structlog

from poller.polling import jobs_file
from poller.runtime import bounded_read
from poller.runtime.files import read_regular
from poller.settings import sources


@dataclass
class Disk:
    """A disk whose reads hang while it does not respond."""

    responds: threading.Event = field(default_factory=threading.Event)

    def read(self, path: Path) -> Any:
        """Read a file, in a thread."""
        self.responds.wait()
        return read_regular(path)

    async def wait(self, wait: Callable[[float], Any], seconds: float, **_: object) -> Any:
        """Wait for a read in virtual time, which does not see threads."""
        if not self.responds.is_set():
            await anyio.sleep(seconds)
            return wait(0.0)
        return wait(seconds)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Put the jobs file and the secret files on a disk that may stop to respond."""
    disk = Disk()
    disk.responds.set()
    monkeypatch.setattr(jobs_file, "read_regular", disk.read)
    monkeypatch.setattr(sources, "read_regular", disk.read)
    monkeypatch.setattr(bounded_read, "run_sync", disk.wait)
    yield disk
    disk.responds.set()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Drop every log line; `capture_logs` still gets them."""
    structlog.configure(processors=[_drop])
    yield
    structlog.reset_defaults()


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent
