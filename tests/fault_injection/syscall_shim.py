"""The library that kills a process at one of its system calls, or makes calls fail."""

import errno
import fcntl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_suffix(".c")
GCC: Final = ("gcc", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC")

POINTS: Final[Mapping[str, Sequence[str]]] = {
    "write": ("before", "middle", "after"),
    "pwrite": ("before", "middle", "after"),
    "fsync": ("before", "after"),
    "change": ("before", "after"),
    "send": ("before", "middle", "after"),
    "receive": ("before", "middle", "after"),
}
"""Where a process can be killed: the places around each kind of call."""


def compiled(root: Path, source: Path = SOURCE) -> Path:
    """Compile a library to preload once below a folder."""
    library = root / f"{source.stem}.so"
    with (root / f"{source.stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            subprocess.run([*GCC, "-o", str(library), str(source)], check=True, timeout=300)
    return library


@dataclass(frozen=True, slots=True)
class KillPoint:
    """`kill -9` at the nth call of a kind: before it, after it, or with half of it done."""

    kind: str
    mode: str
    at: int

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a process needs."""
        return {"KILL_KIND": self.kind, "KILL_MODE": self.mode, "KILL_AT": str(self.at)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Calls on files that fail while the file `switch` exists; `times` 0 means always."""

    name: str
    kinds: Sequence[str]
    path: str
    switch: Path
    times: int = 0

    @property
    def has_failed(self) -> bool:
        """Return whether a call has failed."""
        return Path(f"{self.switch}.failed").exists()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a process needs."""
        return {
            "FAULT_ERRNO": str(getattr(errno, self.name)),
            "FAULT_KINDS": ",".join(self.kinds),
            "FAULT_PATH": self.path,
            "FAULT_TIMES": str(self.times),
            "FAULT_WHILE": str(self.switch),
        }
