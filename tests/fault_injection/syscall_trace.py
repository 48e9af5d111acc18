"""The writes and sends of a process, recorded by strace and parsed into steps."""

import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import Process

CALLS: Final = (
    "openat,write,pwrite64,writev,pwritev,pwritev2,sendto,sendmsg,sendfile,copy_file_range,"
    "ftruncate,truncate,fallocate,fsync,fdatasync,sync_file_range,unlink,unlinkat,"
    "rename,renameat,renameat2,link,linkat"
)
STRACE: Final = (
    *("strace", "-f", "-qq", "-y", "-xx", "--signal=none"),
    *("-s", "65536", "-e", f"trace={CALLS}"),
)

DATALESS: Final = (".lock", ".key", "-shm")
"""Endings of files that hold no events: SQLite recreates -shm from the -wal."""


@dataclass(frozen=True, slots=True)
class Created:
    """A file was created."""

    name: str


@dataclass(frozen=True, slots=True)
class Removed:
    """A file was removed."""

    name: str


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes were written to a file."""

    name: str
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Resized:
    """A file was truncated or extended."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A file was synced; an empty name means the folder."""

    name: str


@dataclass(frozen=True, slots=True)
class Sent:
    """The first bytes of an event may have been sent."""

    event_id: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A process ended with 0: its acknowledged events are settled."""

    event_ids: frozenset[str]


Step = Created | Removed | Written | Resized | Synced | Sent | Settled


@dataclass(frozen=True, slots=True)
class TracedRun:
    """A process under strace, which ends with it and has then written the whole trace."""

    strace: Process
    trace: Path

    @property
    def is_over(self) -> bool:
        """Return whether it has ended."""
        return self.strace.returncode is not None

    async def stop(self) -> int:
        """Send SIGTERM unless it has ended, and return the exit code."""
        if not self.is_over:
            with suppress(ProcessLookupError):  # an injected SIGKILL was faster
                os.kill(int(self.trace.read_text("ascii").split(maxsplit=1)[0]), signal.SIGTERM)
        with anyio.fail_after(120.0):
            return await self.strace.wait()


@asynccontextmanager
async def tracing(
    command: Path, environment: Mapping[str, str], trace: Path, *, killed_at: int = 0
) -> AsyncIterator[TracedRun]:
    """Run the daemon under strace, and stop it afterwards.

    `killed_at` kills it at the start of its nth sync: all is written, and nothing is on the disk.
    """
    kill = ["-e", f"inject=fdatasync:signal=SIGKILL:when={killed_at}"] if killed_at else []
    strace = await anyio.open_process(
        [*STRACE, *kill, "-o", str(trace), str(command), "run"],
        env=dict(environment) | {"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    run = TracedRun(strace, trace)
    try:
        yield run
    finally:
        with anyio.CancelScope(shield=True):
            await run.stop()


PATH: Final = r"<((?:\\x[0-9a-f]{2})*)>"
TEXT: Final = r'"((?:\\x[0-9a-f]{2})*)"'
WRITE: Final = re.compile(rf"pwrite64\(\d+{PATH}, {TEXT}, (\d+), (\d+)\) = (\d+)$")
RESIZE: Final = re.compile(rf"ftruncate\(\d+{PATH}, (\d+)\) = 0$")
SYNC: Final = re.compile(rf"f(?:data)?sync\(\d+{PATH}\) = (0|\?)$")
OPEN: Final = re.compile(rf"openat\(AT_FDCWD{PATH}, {TEXT}, (\S+?)(?:, 0\d+)?\) = (-?\d+)")
REMOVAL: Final = re.compile(rf"unlink\({TEXT}\) = 0$")
SEND: Final = re.compile(rf"(?:write|sendto|writev|sendmsg)\(\d+<.*?{TEXT}")
EVENT: Final = re.compile(rb"^POST .*?webhook-id: (evt_[a-z2-7]+)\r\n", re.DOTALL | re.IGNORECASE)


def _to_hex(text: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text)


def _from_hex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


POST: Final = _to_hex(b"POST ")


@dataclass(slots=True)
class Reader:
    """Parses what one process did in a folder. A call that the model does not know is an error."""

    folder: Path

    def steps(self, trace: Path) -> Iterator[Step]:
        """Return the steps in the order in which they took effect.

        A call counts when it returns, and a send when it begins.
        """
        unfinished: dict[str, str] = {}
        folder_hex = _to_hex(bytes(self.folder))
        with trace.open(encoding="ascii") as lines:
            for line in lines:
                pid, call = line.rstrip("\n").split(maxsplit=1)
                if call.startswith("<... "):
                    call = unfinished.pop(pid, "") + call.partition(" resumed>")[2]
                elif call.endswith(" <unfinished ...>") and POST not in call:
                    unfinished[pid] = call.removesuffix(" <unfinished ...>")
                    continue
                is_failed = call.rpartition(" = ")[2].startswith("-1 ")
                if (folder_hex in call or POST in call) and not is_failed:
                    yield from self._step(re.sub(r"\)\s+= ", ") = ", call))

    def _step(self, call: str) -> Iterator[Step]:
        if sent := SEND.match(call):
            if event := EVENT.match(_from_hex(sent[1])):
                yield Sent(event[1].decode())
        elif opened := OPEN.match(call):
            yield from self._opened(_from_hex(opened[2]), opened[3], int(opened[4]))
        else:
            yield from self._changed(call)

    def _opened(self, path: bytes, flags: str, result: int) -> Iterator[Step]:
        if result >= 0 and "O_CREAT" in flags and (name := self._name(path)):
            assert "O_TRUNC" not in flags
            yield Created(name)

    def _changed(self, call: str) -> Iterator[Step]:
        if written := WRITE.match(call):
            name, content = self._name(_from_hex(written[1])), _from_hex(written[2])
            assert len(content) == int(written[3]) == int(written[5]), "a write was cut short"
            step: Step = Written(name, int(written[4]), content)
        elif resized := RESIZE.match(call):
            step = Resized(name := self._name(_from_hex(resized[1])), int(resized[2]))
        elif removed := REMOVAL.match(call):
            step = Removed(name := self._name(_from_hex(removed[1])))
        elif synced := SYNC.match(call):
            path = _from_hex(synced[1])
            is_known = synced[2] == "0" and (path == bytes(self.folder) or self._name(path))
            name, step = str(is_known or ""), Synced(self._name(path))
        else:
            raise ValueError(f"the model of the disk does not know this: {call[:300]}")
        if name:
            yield step

    def _name(self, path: bytes) -> str:
        """Return the name of a file in the folder; empty if the file holds no data."""
        file = Path(os.fsdecode(path))
        return file.name if file.parent == self.folder and not file.name.endswith(DATALESS) else ""
