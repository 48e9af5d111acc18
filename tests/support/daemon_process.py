"""The installed daemon as a process: its environment, output, signals and exit."""

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process

from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.support.secret_canaries import HEADER, KEY, SECRET, leaks
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.support.webhook_receiver import Receiver, listening

PACE = {
    "POLLER_MIN_INTERVAL": "0.05s",
    "POLLER_MAX_INTERVAL": "0.1s",
    "POLLER_REQUESTS_PER_MINUTE": "60000",
    "POLLER_SETTLE_TIMEOUT": "0.5s",
}
NO_WEBHOOK: dict[str, str | None] = {
    "POLLER_WEBHOOK_URL": None,
    "POLLER_WEBHOOK_SECRET": None,
    "POLLER_WEBHOOK_HEADERS": None,
}
"""The changes for a daemon that sends no webhooks."""


@dataclass(frozen=True)
class Daemon:
    """One process of the daemon. Its output goes to files, so that nothing can block it."""

    process: Process
    stdout: Path
    stderr: Path

    @property
    def out(self) -> str:
        """The text on stdout."""
        return self.stdout.read_text("utf-8")

    @property
    def err(self) -> str:
        """The text on stderr."""
        return self.stderr.read_text("utf-8")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The complete lines of stdout, each of which must be JSON."""
        return [json.loads(line) for line in self.out.split("\n")[:-1]]

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of one event."""
        return [line for line in self.lines if line["event"] == event]

    async def saying(self, event: str) -> list[dict[str, Any]]:
        """Wait for a log line of an event."""
        return await until(lambda: self.said(event))

    async def end(self, *, within: float = PATIENCE_SECONDS) -> int:
        """Wait for its end and return the exit code."""
        with anyio.fail_after(within):
            return await self.process.wait()

    async def stop(self) -> int:
        """Send SIGTERM, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.end()


@dataclass(frozen=True)
class Place:
    """What a daemon needs to run: an API, a receiver, and a folder for state and output."""

    command: Path
    folder: Path
    api: Simulator
    api_url: str
    receiver: Receiver

    def jobs(self, *scripts: JobScript) -> str:
        """Create jobs, and return the value of POLLER_JOB_IDS."""
        for script in scripts:
            self.api.add(script)
        return ",".join(script.job_id for script in scripts)

    def environment(self, changes: dict[str, str | None]) -> dict[str, str]:
        """Return the whole environment of a process; None removes a variable."""
        given = PACE | {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "SUTRO_API_URL": self.api_url,
            "SUTRO_API_KEY": KEY,
            "POLLER_WEBHOOK_URL": self.receiver.url,
            "POLLER_WEBHOOK_SECRET": SECRET,
            "POLLER_WEBHOOK_HEADERS": json.dumps({"X-Team": HEADER}),
            "POLLER_STORE": str(self.folder / "state" / "state.db"),
            "POLLER_LISTEN": "off",
            "POLLER_LOG_LEVEL": "debug",
        }
        return {name: text for name, text in (given | changes).items() if text is not None}

    @asynccontextmanager
    async def running(self, *arguments: str, **changes: str | None) -> AsyncIterator[Daemon]:
        """Run `sutro-poller` with some arguments, and kill it afterwards."""
        async with self.started(
            [str(self.command), *arguments], self.environment(changes)
        ) as daemon:
            yield daemon

    @asynccontextmanager
    async def started(
        self, command: list[str], environment: dict[str, str], *, onto: int | None = None
    ) -> AsyncIterator[Daemon]:
        """Start a command with an environment alone, and kill it afterwards.

        `onto` is a file descriptor for its stdout, in place of a file of the test.
        """
        stdout, stderr = self._outputs()
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = await anyio.open_process(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out if onto is None else onto,
                stderr=err,
            )
        try:
            yield Daemon(process, stdout, stderr)
        finally:
            if process.returncode is None:
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()

    def _outputs(self) -> tuple[Path, Path]:
        folder = self.folder / "output"
        folder.mkdir(exist_ok=True)
        stem = next(str(number) for number in count(1) if not (folder / f"{number}.out").exists())
        return folder / f"{stem}.out", folder / f"{stem}.err"

    async def run(self, *arguments: str, **changes: str | None) -> tuple[int, Daemon]:
        """Run `sutro-poller` to its end, and return its exit code and its output."""
        async with self.running(*arguments, **changes) as ended:
            return await ended.end(), ended


@asynccontextmanager
async def a_place(command: Path, folder: Path) -> AsyncIterator[Place]:
    """Yield what a daemon needs to run; fail if it wrote a secret anywhere."""
    (folder / "state").mkdir(parents=True)
    api = Simulator(key=KEY)
    async with serve(api) as api_url, listening(Receiver()) as receiver:
        yield Place(command, folder, api, api_url, receiver)
    assert not receiver.errors
    assert not leaks(folder)
