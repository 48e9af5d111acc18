"""What can befall the disk of a database, and how it passes."""

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
"""What a checkpoint writes to, and nothing else does."""
WAL: Final = "*/state.db-wal"
ALL: Final = "*/state.db*"
WRITES: Final = ("pwrite", "fsync", "change")
ALL_CALLS: Final = ("open", *WRITES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ailment:
    """Something that befalls the disk under a process; `begin` and `heal` get its pid.

    `order` is for its environment. `is_its_own`: it is the process that has it, not the disk, and
    what it bears inherits it. `is_refusal`: a daemon that starts with it ends with code 78.
    """

    begin: Callable[[int], None]
    heal: Callable[[int], None]
    order: Mapping[str, str] = field(default_factory=dict)
    is_its_own: bool = False
    is_for_ever: bool = False
    is_refusal: bool = False


@dataclass(frozen=True, slots=True)
class Where:
    """Where an ailment strikes: which calls on which files; `spare` bytes of space are left."""

    folder: Path
    files: str
    calls: tuple[str, ...]
    spare: int = 0

    @property
    def disk(self) -> Path:
        """Where the database is, and nothing else."""
        return self.folder / "disk"


Onset = Callable[[Where], AbstractContextManager[Ailment]]


def failing(name: str, *kinds: str, times: int = 0, is_for_ever: bool = False) -> Onset:
    """Let calls fail in the process itself."""

    @contextmanager
    def onset(where: Where) -> Iterator[Ailment]:
        switch = where.folder / "switch"
        failure = Failure(
            name=name, kinds=kinds or where.calls, path=where.files, switch=switch, times=times
        )
        yield Ailment(
            begin=lambda _: switch.touch(),
            heal=lambda _: switch.unlink(),
            order=failure.order,
            is_for_ever=is_for_ever,
        )

    return onset


@contextmanager
def limited(where: Where) -> Iterator[Ailment]:
    """Let no file grow."""

    def begin(pid: int) -> None:
        wal = where.disk / "state.db-wal"
        size = wal.stat().st_size if wal.exists() else 0
        prlimit(pid, RLIMIT_FSIZE, (max(size + where.spare, 8192), RLIM_INFINITY))

    yield Ailment(
        begin=begin,
        heal=lambda pid: prlimit(pid, RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY)) and None,
        is_its_own=True,
    )


@contextmanager
def full(where: Where) -> Iterator[Ailment]:
    """Let there be no space."""
    filler = where.disk / "filler"

    def begin(_: int) -> None:
        free = os.statvfs(where.disk)
        filler.write_bytes(bytes(free.f_bavail * free.f_frsize - where.spare))

    with _mounted(where.disk):
        yield Ailment(begin=begin, heal=lambda _: filler.unlink())


@contextmanager
def read_only(where: Where) -> Iterator[Ailment]:
    """Let the file system be mounted read-only; this cannot be done while files are open."""
    with _mounted(where.disk):
        yield Ailment(
            begin=lambda _: _mount("-o", "remount,ro", where.disk),
            heal=lambda _: _mount("-o", "remount,rw", where.disk),
            is_refusal=True,
        )


@contextmanager
def _mounted(disk: Path) -> Iterator[None]:
    _mount("-t", "tmpfs", "-o", f"size={16 * MIB}", "tmpfs", disk)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True, timeout=30)


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True, timeout=30)


ANYWHERE: Final[Mapping[str, Onset]] = {
    "ENOSPC once": failing("ENOSPC", times=1),
    "ENOSPC": failing("ENOSPC"),
    "EIO once": failing("EIO", times=1),
    "EIO for ever": failing("EIO", is_for_ever=True),
    "EIO of fsync": failing("EIO", "fsync"),
    "EROFS": failing("EROFS"),
    "RLIMIT_FSIZE": limited,
}
AS_ROOT: Final[Mapping[str, Onset]] = {"a full disk": full}
AS_ROOT_AT_START: Final[Mapping[str, Onset]] = AS_ROOT | {"a read-only disk": read_only}
