"""Which kind of file system holds a path, as Linux tells it."""

import errno
import os
import re
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/self/mountinfo")

NETWORK: Final = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "coda",
        "fuse.ceph",
        "fuse.cephfs",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.juicefs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs2",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "smb3",
        "smbfs",
    }
)
"""Types that reach over a network, where locks and shared memory are not to be trusted."""


def network_fs_type(path: Path) -> str | None:
    """Name the network file system that holds a path, or None where none is known to."""
    try:
        where = path.resolve()
    except RuntimeError:  # what Python 3.11 and 3.12 say of links that go round in circles
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
    kind = fs_type(where, _mounts())
    return kind if kind in NETWORK else None


def fs_type(path: Path, mounts: str) -> str | None:
    """Find the type of the file system of a path in the text of a mountinfo file (proc(5))."""
    found: tuple[int, str] | None = None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_unescaped(before.split()[4]))
        # A later line lies over an earlier one of the same place.
        if path.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), after.split()[0]
    return found[1] if found else None


def _mounts() -> str:
    return MOUNTS.read_text(encoding="utf-8", errors="surrogateescape") if MOUNTS.exists() else ""


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)
