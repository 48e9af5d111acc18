"""A host with a real systemd: a copy of this machine, booted, which ends with the tests.

Its holder has mounts and process ids of its own, with an overlay of `/` that writes to memory. It
reads its stdin until that ends: however the tests end, the kernel then ends all that runs there,
and the mounts go with it. The network is this machine's, so that loopback is shared.
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

HOLD_SCRIPT: Final = Path(__file__).with_name("hold.sh")
JOIN_SCRIPT: Final = 'for it in $GROUPS_OF_IT; do echo 0 > "$it/cgroup.procs"; done; exec "$@"'
"""A script that joins control groups, then becomes a command."""
HIERARCHIES: Final = ("", "systemd", "unified")
"""The places where systemd may keep its control groups below /sys/fs/cgroup."""
NETWORK: Final = ("PIP_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""Beginnings of variables that configure pip's way to the package index."""
ROOT: Final = {
    "HOME": "/root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
"""The environment of a root shell."""
BOOT: Final = 120.0


@dataclass(slots=True)
class Host:
    """A machine to boot. `binds` maps paths here to read-only paths there."""

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
            [*enter, "sh", "-c", JOIN_SCRIPT, "sh", *nspawn],
            env=os.environ | {"GROUPS_OF_IT": " ".join(map(str, self.groups))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None,
        )
        self._leader = await eventually(self._find_systemd, within=BOOT)
        await eventually(self._is_booted, within=BOOT)

    async def _find_systemd(self) -> int | None:
        """Return the id here of the process that is number 1 there."""
        assert self._machine
        grandchildren = [
            grandchild for child in children(self._machine.pid) for grandchild in children(child)
        ]
        return next((process for process in grandchildren if name(process) == "systemd"), None)

    async def _is_booted(self) -> bool:
        ended = await self._run(("systemctl", "is-system-running", "--wait"))
        return ended.stdout.strip() in {b"running", b"degraded"}

    async def power_off(self) -> None:
        """Stop everything in order; files are there at the next boot."""
        assert self._machine
        await self.run("systemctl", "poweroff")
        with anyio.fail_after(BOOT):
            await self._machine.wait()

    async def run(self, *words: str, stdin: str = "") -> str:
        """Run a command there as root that must succeed, and return its stdout."""
        ended = await self._run(words, stdin)
        assert ended.returncode == 0, (words, ended.stdout.decode(), ended.stderr.decode())
        return ended.stdout.decode()

    async def code(self, *words: str) -> int:
        """Run a command there as root, and return its exit code."""
        return (await self._run(words)).returncode

    async def _run(
        self, words: tuple[str, ...], stdin: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        outside = {
            name: text for name, text in os.environ.items() if name.upper().startswith(NETWORK)
        }
        return await anyio.run_process(
            ["nsenter", f"--target={self._leader}", "--all", "--", *words],
            input=stdin.encode(),
            env=outside | ROOT,
            check=False,
        )

    async def write(self, path: str, text: str, *, mode: str = "0600") -> None:
        """Write a file there."""
        await self.run("install", "-D", "-m", mode, "/dev/stdin", path, stdin=text)

    async def end(self) -> None:
        """Wait for the end of systemd."""
        if self._machine:
            await self._machine.aclose()


@asynccontextmanager
async def prepared_host(folder: Path) -> AsyncIterator[Host]:
    """Yield a host made of a copy of this machine, not booted yet; remove it afterwards."""
    unshare = ["unshare", "--mount", "--mount-proc", "--pid", "--fork"]
    with grouped(f"sutro-poller-{os.getpid()}") as groups:
        holder = await anyio.open_process(
            [*unshare, "sh", str(HOLD_SCRIPT), str(folder)], stderr=None
        )
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
    """Create a control group for a host; remove it with all that systemd created in it."""
    tops = [Path("/sys/fs/cgroup", hierarchy) for hierarchy in HIERARCHIES]
    groups = [top / title for top in tops if (top / "cgroup.procs").exists()]
    for group in groups:
        group.mkdir()
    try:
        yield groups
    finally:
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                Path(folder).rmdir()


def children(process: int) -> list[int]:
    """Return the ids of the children of a process."""
    return [int(child) for child in read(f"/proc/{process}/task/{process}/children").split()]


def name(process: int) -> str:
    """Return the name of a process."""
    return read(f"/proc/{process}/comm").strip()


def read(path: str) -> str:
    """Read a file of /proc; it is empty when the process has ended."""
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""


async def eventually(claim: Callable[[], Awaitable[T]], *, within: float = 120.0) -> T:
    """Wait until a condition is true, and return its value."""
    with anyio.fail_after(within):
        while not (found := await claim()):  # noqa: ASYNC110 - it changes in another process
            await anyio.sleep(0.1)
    return found
