"""The type of the file system that holds a path, from /proc (Linux)."""

import re
from pathlib import Path
from typing import Final

from poller.store.files import resolved

MOUNTINFO: Final = Path("/proc/self/mountinfo")

NETWORK_FS_TYPES: Final = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "fuse.blobfuse",
        "fuse.blobfuse2",
        "fuse.ceph",
        "fuse.cephfs",
        "fuse.davfs",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.grpcfuse",
        "fuse.juicefs",
        "fuse.moosefs",
        "fuse.mount-s3",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.shfs",
        "fuse.sshfs",
        "fuse.vmhgfs-fuse",
        "gfs2",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "prl_fs",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
    }
)
"""File systems whose locks and shared memory may not work between hosts."""


def network_fs_type(path: Path) -> str | None:
    """Return the type of the network file system that holds a path; None for a local one."""
    found = fs_type_of(path)
    return found if found in NETWORK_FS_TYPES else None


def fs_type_of(path: Path) -> str | None:
    """Return the type of the file system that holds a path; None where it is not known."""
    table = MOUNTINFO.read_text("utf-8", "surrogateescape") if MOUNTINFO.exists() else ""
    return fs_type(resolved(path), table)


def fs_type(path: Path, mounts: str) -> str | None:
    """Return the file system type of a path, from the text of a mountinfo file (proc(5))."""
    deepest: tuple[int, str] | None = None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_unescape(before.split()[4]))
        # A later mount covers an earlier one at the same mount point.
        if path.is_relative_to(point) and (deepest is None or len(point.parts) >= deepest[0]):
            deepest = len(point.parts), after.split()[0]
    return deepest[1] if deepest else None


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)
