"""Run what a page shows, in its order, in one shell."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Final

import anyio
from anyio.abc import Process

from tests.docs.markdown import Block
from tests.docs.transcript import Command, commands, is_like
from tests.docs.unrun import reason_not_to_run
from tests.docs.worlds import World
from tests.support.waiting import until

PROGRAMS: Final = {"sh": "bash -eu", "python": "python", "js": "node"}
"""What runs a block of a language. Its text is a whole program."""
RUN: Final = frozenset({"console", *PROGRAMS})

LASTING: Final = (
    "sutro-poller run",
    "sutro-poller simulate",
    "sutro-poller listen",
    "curl -s -N",
    "curl -sN",
)
"""Commands that go on until a signal: they run until they have printed what the page shows."""

LOOKS: Final = (
    "sutro-poller status",
    "sutro-poller jobs ls",
    "sutro-poller jobs show",
    "sutro-poller events ls",
    "sutro-poller dead-letters ls",
    "sutro-poller sinks ls",
    "sutro-poller costs",
    "curl -s 'localhost",
    "sqlite3 ",
)
"""Commands that show a state which comes by itself, and change none: they are run again until it is
there. SQLite's shell does not wait while another process writes."""

LIMIT: Final = 120.0
LOOK_LIMIT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A command that did not do what its page shows."""

    place: str
    command: Command
    printed: str
    code: int | None

    def __str__(self) -> str:
        """Show what is expected beside what came."""
        return (
            f"{self.place}: $ {self.command.text}\nthe page shows:\n{self.command.output}"
            f"the command printed (exit code {self.code}):\n{self.printed}"
        )


@dataclass(slots=True)
class Session:
    """One shell in a world; what a command sets is there for the next."""

    world: World
    shell: Process
    outputs: Path
    _count: int = field(default=0, init=False)

    async def run(self, command: Command, place: str) -> Mismatch | None:
        """Run one command, and return it if it did not do what the page shows."""
        deadline = anyio.current_time() + (LOOK_LIMIT if command.text.startswith(LOOKS) else 0.0)
        while (mismatch := await self._run(command, place)) and anyio.current_time() < deadline:
            pass
        return mismatch

    async def _run(self, command: Command, place: str) -> Mismatch | None:
        self._count += 1
        out, code = self.outputs / f"{self._count}", self.outputs / f"{self._count}.code"
        text = self.world.real(command.text)
        lasts = text.startswith(LASTING) and not text.rstrip().endswith("&")
        out.touch()
        await self._write(
            f"exec >{out} 2>&1\n{text}{' &' if lasts else ''}\nprintf %s $? >{code}.new\n"
            f"mv {code}.new {code}\n"
        )

        def is_shown() -> bool:
            return is_like(command.output, self._printed(out), is_begun=lasts)

        try:
            await until(code.exists, within=LIMIT)
            # What runs in the background may still be about to print it.
            await until(is_shown, within=LIMIT if lasts or text.rstrip().endswith("&") else 0.01)
        except TimeoutError:
            pass
        exit_code = int(code.read_text()) if code.exists() else None
        is_done = exit_code == 0 or (exit_code is not None and bool(command.output))
        if is_done and is_shown():
            return None
        return Mismatch(place, command, self._printed(out), exit_code)

    def _printed(self, out: Path) -> str:
        return self.world.as_shown(out.read_text("utf-8", errors="replace"))

    async def _write(self, text: str) -> None:
        assert self.shell.stdin
        await self.shell.stdin.send(text.encode())


def steps(block: Block, world: World) -> Iterator[Command]:
    """Yield what is to be run of a block; what has a title is written to that file."""
    if block.title:
        path = world.folder / block.title
        path.write_text(world.real(block.text), "utf-8")
        path.chmod(0o700)
    elif block.language == "console":
        yield from commands(block)
    elif program := PROGRAMS.get(block.language):
        script = world.folder / f".block-{block.line}"
        script.write_text(world.real(block.text), "utf-8")
        yield Command(block.line, f"{program} {script.name} >{script.name}.out 2>&1", "")


async def play(page_blocks: list[Block], world: World) -> list[Mismatch]:
    """Run all blocks of a page, and return what did not do what the page shows."""
    found = []
    async with a_session(world) as session:
        for block in page_blocks:
            if block.language in PROGRAMS and reason_not_to_run(block.text):
                continue
            for command in steps(block, world):
                if reason_not_to_run(command.text):
                    continue
                if mismatch := await session.run(command, f"{block.page}:{command.line}"):
                    found.append(mismatch)
    return found


@asynccontextmanager
async def a_session(world: World) -> AsyncIterator[Session]:
    """Start a shell, and end it with all that it has started."""
    outputs = world.folder.parent / "outputs"
    outputs.mkdir()
    shell = await anyio.open_process(
        ["bash", "--norc"],
        env=world.environment,
        cwd=world.folder,
        stdin=PIPE,
        stdout=DEVNULL,
        stderr=DEVNULL,
        start_new_session=True,
    )
    try:
        yield Session(world, shell, outputs)
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await shell.wait()
