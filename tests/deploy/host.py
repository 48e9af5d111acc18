"""A host with a real systemd: a copy of this machine, booted, which is gone when the tests are.

Its holder has mounts and process ids of its own, with an overlay of `/` that writes to memory. It
reads its stdin until that ends: whatever becomes of the tests, the kernel then ends all that runs
there, and the mounts go with it. The network is this machine's, so that loopback is shared.
"""

import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import anyio
from anyio.abc import Process

T = TypeVar("T")

HOLD: Final = Path(__file__).with_name("hold.sh")
JOIN: Final = 'for it in $GROUPS_OF_IT; do echo 0 > "$it/cgroup.procs"; done; exec "$@"'
"""A script that joins control groups, then becomes a command."""
HIERARCHIES: Final = ("", "systemd", "unified")
"""Where systemd may keep its control groups below /sys/fs/cgroup."""
NETWORK: Final = ("PIP_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""How variables begin that tell pip the way to the index from here."""
ROOT: Final = {
    "HOME": "/root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
"""What a shell of root knows."""
BOOT: Final = 30.0


@dataclass(slots=True)
class Host:
    """A machine to boot. `binds` are paths here, and where it has them, read-only."""

    root: Path
    holder: int
    groups: list[Path]
    binds: dict[Path, str] = field(default_factory=dict)
    _machine: Process | None = None
    _leader: int = 0

    async def boot(self) -> None:
        """Start systemd, and wait until it has started everything."""
        binds = [f"--bind-ro={path}:{where}" for path, where in self.binds.items()]
        options = ["--register=no", "--keep-unit", "--link-journal=no", "--console=pipe", "--quiet"]
        nspawn = ["systemd-nspawn", "--boot", f"--directory={self.root}", *options, *binds]
        enter = ["nsenter", f"--target={self.holder}", "--mount", "--pid"]
        self._machine = await anyio.open_process(
            [*enter, "sh", "-c", JOIN, "sh", *nspawn],
            env=os.environ | {"GROUPS_OF_IT": " ".join(map(str, self.groups))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None,
        )
        self._leader = await eventually(self._born, within=BOOT)
        await eventually(self._is_up, within=BOOT)

    async def _born(self) -> int | None:
        """Give the number here of the process that is number 1 there."""
        assert self._machine
        grandchildren = [it for child in children(self._machine.pid) for it in children(child)]
        return next((it for it in grandchildren if name(it) == "systemd"), None)

    async def _is_up(self) -> bool:
        ended = await self._run(("systemctl", "is-system-running", "--wait"))
        return ended.stdout.strip() in {b"running", b"degraded"}

    async def power_off(self) -> None:
        """Stop everything in order; what was written is there at the next boot."""
        assert self._machine
        await self.run("systemctl", "poweroff")
        with anyio.fail_after(BOOT):
            await self._machine.wait()

    async def run(self, *words: str, stdin: str = "") -> str:
        """Run a command there as root, and give its stdout. It has to succeed."""
        ended = await self._run(words, stdin)
        assert ended.returncode == 0, (words, ended.stdout.decode(), ended.stderr.decode())
        return ended.stdout.decode()

    async def code(self, *words: str) -> int:
        """Run a command there as root, and give its exit code."""
        return (await self._run(words)).returncode

    async def _run(
        self, words: tuple[str, ...], stdin: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        outside = {it: text for it, text in os.environ.items() if it.upper().startswith(NETWORK)}
        return await anyio.run_process(
            ["nsenter", f"--target={self._leader}", "--all", "--", *words],
            input=stdin.encode(),
            env=outside | ROOT,
            check=False,
        )

    async def write(self, path: str, text: str, *, mode: str = "0600") -> None:
        """Put a file there."""
        await self.run("install", "-D", "-m", mode, "/dev/stdin", path, stdin=text)

    async def end(self) -> None:
        """Wait for the end of what the holder has taken with it."""
        if self._machine:
            await self._machine.aclose()


@asynccontextmanager
async def held(folder: Path) -> AsyncIterator[Host]:
    """Make a host of a copy of this machine, not booted yet. Nothing of it outlives this block."""
    unshare = ["unshare", "--mount", "--mount-proc", "--pid", "--fork"]
    with grouped(f"sutro-poller-{os.getpid()}") as groups:
        holder = await anyio.open_process([*unshare, "sh", str(HOLD), str(folder)], stderr=None)
        host = Host(folder / "root", 0, groups)
        try:
            assert holder.stdout
            with anyio.fail_after(BOOT):
                assert await holder.stdout.receive() == b"held\n"
            (host.holder,) = children(holder.pid)
            yield host
        finally:
            with anyio.CancelScope(shield=True):
                await holder.aclose()
                await host.end()


@contextmanager
def grouped(title: str) -> Iterator[list[Path]]:
    """Make a control group for a host, and remove it with all that systemd made in it."""
    tops = [Path("/sys/fs/cgroup", it) for it in HIERARCHIES]
    groups = [it / title for it in tops if (it / "cgroup.procs").exists()]
    for group in groups:
        group.mkdir()
    try:
        yield groups
    finally:
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                Path(folder).rmdir()


def children(process: int) -> list[int]:
    """Give the ids of the children of a process."""
    return [int(it) for it in read(f"/proc/{process}/task/{process}/children").split()]


def name(process: int) -> str:
    """Say what a process is called."""
    return read(f"/proc/{process}/comm").strip()


def read(path: str) -> str:
    """Read what the kernel says of a process; nothing when it has ended."""
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""


async def eventually(claim: Callable[[], Awaitable[T]], *, within: float = 15.0) -> T:
    """Wait until a claim is true that takes a look, and give what it says."""
    with anyio.fail_after(within):
        while not (found := await claim()):  # noqa: ASYNC110 - it comes true in another process
            await anyio.sleep(0.1)
    return found
