"""What the cruel tests share: how much and from which seed, what they found, and cheap lives."""

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

NURSERY: Final = Path(__file__).parents[1] / "support/forked_process.py"
ENOUGH: Final = 12
"""How many violations a failing test names."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is tried: the usual form, or the long one of `make test-faults`; from which seed."""

    is_long: bool
    seed: int

    def cases(self, usual: int, long: int) -> int:
        """Say how many cases to try."""
        return long if self.is_long else usual

    def random(self, *names: object) -> Random:
        """Give a generator of its own for each name, the same again for the same seed."""
        return Random(f"{self.seed} {names}")


SCALE: Final = Scale("FAULTS_LONG" in os.environ, int(os.environ.get("FAULTS_SEED", "1")))


def tally(
    promise: str, *, cases: int, hits: int | None = None, violations: Collection[str] = ()
) -> None:
    """Note what a test found for the table of `make test-faults`, then fail if it found anything.

    `hits` counts the cases that struck where it hurts. Rows of one promise are added up.
    """
    suite = os.environ["PYTEST_CURRENT_TEST"].partition("::")[0]
    row = {"promise": promise, "suite": suite, "cases": cases, "hits": hits}
    row["violations"] = len(violations)
    print(f"seed {SCALE.seed}: {row}")  # noqa: T201 - the figure
    if path := os.environ.get("FAULTS_RESULTS"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    assert not violations, (f"FAULTS_SEED={SCALE.seed}", list(violations)[:ENOUGH])
    assert cases


@dataclass(slots=True)
class Child:
    """One process of the product."""

    pid: int
    output: Path
    code: int | None = None
    died: anyio.Event = field(default_factory=anyio.Event)

    def send(self, number: int) -> None:
        """Send it a signal, unless it is dead already."""
        if self.code is None:
            with suppress(ProcessLookupError):  # the news of its death is under way
                os.kill(self.pid, number)

    async def end(self, *, within: float = 30.0) -> int:
        """Wait for its end and give its exit code, that of a signal as a negative number."""
        with anyio.fail_after(within):
            await self.died.wait()
        assert self.code is not None
        return self.code

    async def kill(self) -> None:
        """End it without a warning."""
        self.send(signal.SIGKILL)
        await self.end()

    async def stop(self) -> int:
        """Ask it to stop, and return its exit code."""
        self.send(signal.SIGTERM)
        return await self.end()

    @property
    def said(self) -> str:
        """Give all of its output, of which the last line may be half written."""
        return self.output.read_text("utf-8") if self.output.exists() else ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Give the whole lines of its output, and of those that wrote there before."""
        return [json.loads(it) for it in self.output.read_text("utf-8").split("\n")[:-1]]


@dataclass(slots=True)
class Nursery:
    """Where children are born. One at a time may be asked for."""

    process: Process
    children: dict[int, Child] = field(default_factory=dict)
    _outputs: deque[Path] = field(default_factory=deque)
    _newborn: deque[Child] = field(default_factory=deque)
    _news: anyio.Event = field(default_factory=anyio.Event)

    async def bear(self, environment: Mapping[str, str], output: Path, *arguments: str) -> Child:
        """Start `sutro-poller run`, or another verb, with this environment and no other."""
        order = {"arguments": arguments or ["run"], "environment": dict(environment)}
        self._outputs.append(output)
        assert self.process.stdin
        await self.process.stdin.send(json.dumps(order | {"output": str(output)}).encode() + b"\n")
        with anyio.fail_after(30.0):
            while not self._newborn:
                self._news = anyio.Event()
                await self._news.wait()
        return self._newborn.popleft()

    async def listen(self) -> None:
        """Take in births and deaths."""
        assert self.process.stdout
        lines = BufferedByteReceiveStream(self.process.stdout)
        while True:
            self._note(json.loads(await lines.receive_until(b"\n", 65_536)))

    def _note(self, news: dict[str, int]) -> None:
        pid = news["pid"]
        if "code" not in news:
            child = self.children[pid] = Child(pid, self._outputs.popleft())
            self._newborn.append(child)
            self._news.set()
            return
        child = self.children.pop(pid)
        child.code = news["code"]
        child.died.set()


@asynccontextmanager
async def nursery(command: Path, *before: str, **environment: str) -> AsyncIterator[Nursery]:
    """Open a nursery of the installed product; no child outlives it.

    `environment` is that of the nursery itself: what is preloaded there is in every child. Words
    `before` its command run it in surroundings of its own.
    """
    process = await anyio.open_process(
        [*before, str(command.with_name("python")), str(NURSERY)],
        env={"PATH": os.environ["PATH"]} | environment,
        stderr=subprocess.DEVNULL,
    )
    async with process, anyio.create_task_group() as group:
        it = Nursery(process)
        group.start_soon(it.listen)
        try:
            yield it
        finally:
            for child in it.children.values():
                child.send(signal.SIGKILL)
            group.cancel_scope.cancel()
            process.kill()
