"""Programs to measure, each a process of its own, and the server that they all poll."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self
from urllib.parse import urlsplit

PROJECT: Final = Path(__file__).parents[2]
BENCH: Final = Path(__file__).parent
KEY: Final = "sk_bench"
TIMEOUT_SECONDS: Final = 300.0
POLL_SECONDS: Final = 0.02
KIB_A_MIB: Final = 1024
API_SOCKET: Final = "api.sock"
"""The file that the HTTP API listens at, in the folder of its daemon."""

ALLOCATOR: Final = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "4194304"}
"""The settings of the unit and the image. Every program is measured with them."""


@dataclass(frozen=True, slots=True)
class Program:
    """The command and the environment of a program."""

    command: Sequence[str]
    variables: Mapping[str, str]

    @contextmanager
    def running(self, folder: Path) -> Iterator["Running"]:
        """Run it in a folder while the block runs; its output goes to the file `out`."""
        with (
            (folder / "out").open("wb") as out,
            subprocess.Popen(
                self.command,
                env={"PATH": os.environ["PATH"], "HOME": str(folder)} | ALLOCATOR | self.variables,
                cwd=folder,
                stdout=out,
            ) as process,
        ):
            try:
                yield Running(process)
            finally:
                process.kill()


@dataclass(frozen=True, slots=True)
class Running:
    """A process, and what the kernel reports about it."""

    process: subprocess.Popen[bytes]

    @property
    def cpu_seconds(self) -> float:
        """The CPU seconds of all its threads (clock_getcpuclockid(3))."""
        return time.clock_gettime(~self.process.pid << 3 | 2)

    @property
    def resident_mib(self) -> float:
        """The memory that it holds."""
        return self._memory("VmRSS")

    @property
    def peak_mib(self) -> float:
        """The most memory that it has held."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> float:
        """Return a figure of proc(5) in MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (kib,) = (line.split()[1] for line in lines if line.startswith(name))
        return int(kib) / KIB_A_MIB

    def until_ended(self) -> None:
        """Wait for its end, after which its CPU time can still be read."""
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def pause(self) -> None:
        """Stop it."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it."""
        self.process.send_signal(signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Server:
    """The server: its URLs, with and without TLS, and its counters."""

    http: str
    https: str
    ca_file: str

    @classmethod
    @contextmanager
    def serving(cls, jobs: int) -> Iterator[Self]:
        """Serve so many jobs while the block runs."""
        with TemporaryDirectory() as folder:
            ca_file = str(Path(folder, "ca.pem"))
            with subprocess.Popen(
                [sys.executable, "-m", "tests.bench.server", str(jobs), ca_file],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as process:
                assert process.stdout
                try:
                    yield cls(**json.loads(process.stdout.readline()), ca_file=ca_file)
                finally:
                    process.kill()

    def url(self, scheme: str) -> str:
        """Return its URL for a scheme."""
        return {"http": self.http, "https": self.https}[scheme]

    def counts(self) -> Mapping[str, float]:
        """Return the number of requests so far, by kind."""
        counts: Mapping[str, float] = self._get("/bench/counts")
        return counts

    def count(self, kind: str) -> int:
        """Return the number of requests of one kind."""
        return int(self.counts().get(kind, 0))

    def end(self, over: float) -> None:
        """End the jobs, one by one within so many seconds."""
        self._get(f"/bench/end?over={over}")

    def until(self, kind: str, count: int) -> None:
        """Wait until there were so many requests of a kind."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.count(kind) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{self.count(kind)} of {count} {kind} after {TIMEOUT_SECONDS:.0f} s"
                )
            time.sleep(POLL_SECONDS)

    def until_quiet(self, seconds: float) -> None:
        """Wait until nothing has been requested for so long."""
        before = None
        while (counts := self.counts()) != before:
            before = counts
            time.sleep(seconds)

    def _get(self, path: str) -> Any:
        connection = HTTPConnection(urlsplit(self.http).netloc)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def daemon(server: Server, folder: Path, job_ids: Sequence[str], **variables: str) -> Program:
    """Return `sutro-poller run` as users run it, with SQLite and a log."""
    (folder / "jobs").write_text("".join(f"{job_id}\n" for job_id in job_ids))
    settings = {
        "PYTHONPATH": str(PROJECT),
        "SUTRO_API_URL": server.http,
        "SUTRO_API_KEY": KEY,
        "POLLER_CA_FILE": server.ca_file,
        "POLLER_JOBS_FILE": str(folder / "jobs"),
        "POLLER_STORE": str(folder / "state.db"),
        "POLLER_LISTEN": f"unix:{folder / API_SOCKET}",
    }
    return Program((sys.executable, "-m", "poller", "run"), settings | variables)


FLAT_OUT: Final = {
    "POLLER_MIN_INTERVAL": "0.001",
    "POLLER_MAX_INTERVAL": "0.001",
    "POLLER_REQUESTS_PER_MINUTE": "1e9",
    "POLLER_REQUEST_TIMEOUT": "1h",
}
"""Settings with which a job is always due.

No request may time out while its process is stopped.
"""


def newest(jobs: int, watched: int) -> list[str]:
    """Return the ids of the newest jobs of so many."""
    return [f"job-{number}" for number in range(jobs - watched, jobs)]
