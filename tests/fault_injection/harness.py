"""Scale, seeds and results of the fault injection tests, and daemons that are forked."""

import json
import os
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.support.waiting import PATIENCE_SECONDS

FORKER_SCRIPT: Final = Path(__file__).parents[1] / "support/forked_process.py"
MAX_REPORTED: Final = 12
"""Number of violations that a failing test prints."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The number of cases, usual or long (`make test-faults`), and the seed."""

    is_long: bool
    seed: int

    def cases(self, usual: int, long: int) -> int:
        """Return the number of cases to run."""
        return long if self.is_long else usual

    def random(self, *names: object) -> Random:
        """Return a generator for each name, the same one for the same seed."""
        return Random(f"{self.seed} {names}")


SCALE: Final = Scale("FAULTS_LONG" in os.environ, int(os.environ.get("FAULTS_SEED", "1")))


def tally(
    promise: str, *, cases: int, hits: int | None = None, violations: Collection[str] = ()
) -> None:
    """Record the result of a test for the table of `make test-faults`; fail on any violation.

    `hits` counts the cases whose fault came at a critical moment. Rows of one promise are added up.
    """
    suite = os.environ["PYTEST_CURRENT_TEST"].partition("::")[0]
    row = {"promise": promise, "suite": suite, "cases": cases, "hits": hits}
    row["violations"] = len(violations)
    print(f"seed {SCALE.seed}: {row}")  # noqa: T201 - the figure
    if path := os.environ.get("FAULTS_RESULTS"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    assert not violations, (f"FAULTS_SEED={SCALE.seed}", list(violations)[:MAX_REPORTED])
    assert cases


@dataclass(slots=True)
class ForkedProcess:
    """One forked process of the daemon."""

    pid: int
    output: Path
    code: int | None = None
    exited: anyio.Event = field(default_factory=anyio.Event)

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.code is None:
            with suppress(ProcessLookupError):  # the report of its end is not read yet
                os.kill(self.pid, number)

    async def end(self, *, within: float = PATIENCE_SECONDS) -> int:
        """Wait for its end and return the exit code; that of a signal is negative."""
        with anyio.fail_after(within):
            await self.exited.wait()
        assert self.code is not None
        return self.code

    async def kill(self) -> None:
        """Kill it."""
        self.send(signal.SIGKILL)
        await self.end()

    async def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.send(signal.SIGTERM)
        return await self.end()

    @property
    def text(self) -> str:
        """The whole output, of which the last line may be incomplete."""
        return self.output.read_text("utf-8") if self.output.exists() else ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The complete lines of its output, and of earlier processes with the same output."""
        return [json.loads(line) for line in self.output.read_text("utf-8").split("\n")[:-1]]


@dataclass(slots=True)
class ProcessForker:
    """Starts daemons by fork. Only one caller at a time may start one."""

    process: Process
    children: dict[int, ForkedProcess] = field(default_factory=dict)
    _outputs: deque[Path] = field(default_factory=deque)
    _started: deque[ForkedProcess] = field(default_factory=deque)
    _reported: anyio.Event = field(default_factory=anyio.Event)

    async def start(
        self, environment: Mapping[str, str], output: Path, *arguments: str
    ) -> ForkedProcess:
        """Start `sutro-poller run`, or another command, with this environment alone."""
        order = {"arguments": arguments or ["run"], "environment": dict(environment)}
        self._outputs.append(output)
        assert self.process.stdin
        await self.process.stdin.send(json.dumps(order | {"output": str(output)}).encode() + b"\n")
        with anyio.fail_after(PATIENCE_SECONDS):
            while not self._started:
                self._reported = anyio.Event()
                await self._reported.wait()
        return self._started.popleft()

    async def listen(self) -> None:
        """Read the reports of starts and ends."""
        assert self.process.stdout
        lines = BufferedByteReceiveStream(self.process.stdout)
        while True:
            self._record(json.loads(await lines.receive_until(b"\n", 65_536)))

    def _record(self, news: dict[str, int]) -> None:
        pid = news["pid"]
        if "code" not in news:
            child = self.children[pid] = ForkedProcess(pid, self._outputs.popleft())
            self._started.append(child)
            self._reported.set()
            return
        child = self.children.pop(pid)
        child.code = news["code"]
        child.exited.set()


@asynccontextmanager
async def process_forker(
    command: Path, *before: str, script: Path = FORKER_SCRIPT, **environment: str
) -> AsyncIterator[ProcessForker]:
    """Run a server that forks installed daemons, and kill them all afterwards.

    `environment` is that of the server: what it preloads is in every daemon. `before` is a command
    that runs the server, for example in a namespace of its own; `script` is the server.
    """
    process = await anyio.open_process(
        [*before, str(command.with_name("python")), str(script)],
        env={"PATH": os.environ["PATH"]} | environment,
        stderr=subprocess.DEVNULL,
    )
    async with process, anyio.create_task_group() as group:
        forker = ProcessForker(process)
        group.start_soon(forker.listen)
        try:
            yield forker
        finally:
            for child in forker.children.values():
                child.send(signal.SIGKILL)
            group.cancel_scope.cancel()
            process.kill()
