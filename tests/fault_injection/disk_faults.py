"""Faults of the disk that holds a database, and their end."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, prlimit
from typing import Final

from tests.fault_injection.syscall_shim import Failure

MIB: Final = 1 << 20
MAIN: Final = "*/state.db"
"""The file that only a checkpoint writes to."""
WAL: Final = "*/state.db-wal"
ALL: Final = "*/state.db*"
WRITES: Final = ("pwrite", "fsync", "change")
ALL_CALLS: Final = ("open", *WRITES)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFault:
    """A fault of the disk; `begin` and `end` get the id of the process.

    `environment` is that of the process. `is_per_process`: the process has the fault, not the disk,
    and forked processes inherit it. `is_fatal`: a daemon that starts with it exits with code 78.
    """

    begin: Callable[[int], None]
    end: Callable[[int], None]
    environment: Mapping[str, str] = field(default_factory=dict)
    is_per_process: bool = False
    is_permanent: bool = False
    is_fatal: bool = False


@dataclass(frozen=True, slots=True)
class FaultTarget:
    """Which calls on which files fail; `spare` bytes of space are left."""

    folder: Path
    files: str
    calls: tuple[str, ...]
    spare: int = 0

    @property
    def disk(self) -> Path:
        """The folder that holds nothing but the database."""
        return self.folder / "disk"


FaultSetup = Callable[[FaultTarget], AbstractContextManager[DiskFault]]


def failing_calls(name: str, *kinds: str, times: int = 0, is_permanent: bool = False) -> FaultSetup:
    """Make calls fail inside the process."""

    @contextmanager
    def setup(target: FaultTarget) -> Iterator[DiskFault]:
        switch = target.folder / "switch"
        failure = Failure(
            name=name, kinds=kinds or target.calls, path=target.files, switch=switch, times=times
        )
        yield DiskFault(
            begin=lambda _: switch.touch(),
            end=lambda _: switch.unlink(),
            environment=failure.environment,
            is_permanent=is_permanent,
        )

    return setup


@contextmanager
def file_size_limit(target: FaultTarget) -> Iterator[DiskFault]:
    """Forbid that files grow."""

    def begin(pid: int) -> None:
        wal = target.disk / "state.db-wal"
        size = wal.stat().st_size if wal.exists() else 0
        prlimit(pid, RLIMIT_FSIZE, (max(size + target.spare, 8192), RLIM_INFINITY))

    yield DiskFault(
        begin=begin,
        end=lambda pid: prlimit(pid, RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY)) and None,
        is_per_process=True,
    )


@contextmanager
def full_disk(target: FaultTarget) -> Iterator[DiskFault]:
    """Fill the disk."""
    filler = target.disk / "filler"

    def begin(_: int) -> None:
        free = os.statvfs(target.disk)
        filler.write_bytes(bytes(free.f_bavail * free.f_frsize - target.spare))

    with _mounted(target.disk):
        yield DiskFault(begin=begin, end=lambda _: filler.unlink())


@contextmanager
def read_only(target: FaultTarget) -> Iterator[DiskFault]:
    """Mount the file system read-only, which is not possible while files are open."""
    with _mounted(target.disk):
        yield DiskFault(
            begin=lambda _: _mount("-o", "remount,ro", target.disk),
            end=lambda _: _mount("-o", "remount,rw", target.disk),
            is_fatal=True,
        )


@contextmanager
def _mounted(disk: Path) -> Iterator[None]:
    _mount("-t", "tmpfs", "-o", f"size={16 * MIB}", "tmpfs", disk)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True, timeout=120)


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True, timeout=120)


ANY_USER: Final[Mapping[str, FaultSetup]] = {
    "ENOSPC once": failing_calls("ENOSPC", times=1),
    "ENOSPC": failing_calls("ENOSPC"),
    "EIO once": failing_calls("EIO", times=1),
    "EIO for ever": failing_calls("EIO", is_permanent=True),
    "EIO of fsync": failing_calls("EIO", "fsync"),
    "EROFS": failing_calls("EROFS"),
    "RLIMIT_FSIZE": file_size_limit,
}
AS_ROOT: Final[Mapping[str, FaultSetup]] = {"a full disk": full_disk}
AS_ROOT_AT_START: Final[Mapping[str, FaultSetup]] = AS_ROOT | {"a read-only disk": read_only}
