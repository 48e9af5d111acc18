"""The file system type of a path."""

from pathlib import Path

import pytest

from poller.store import network_fs as filesystem
from poller.store.network_fs import fs_type, network_fs_type

MOUNTINFO = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
36 27 0:40 / /srv rw,relatime shared:1 - nfs4 server:/export rw
37 36 0:41 / /srv/local rw,relatime - xfs /dev/vdb rw
38 27 0:42 / /mnt/two\040words rw - fuse.sshfs me@host: rw
39 27 0:43 / /over rw - ext4 /dev/vdc rw
40 39 0:44 / /over rw - cifs //server/share rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/state.db", "ext4"),
        ("/srv/state.db", "nfs4"),
        ("/srvx/state.db", "ext4"),
        ("/srv/local/deep/state.db", "xfs"),
        ("/mnt/two words/state.db", "fuse.sshfs"),
        ("/over/state.db", "cifs"),
    ],
)
def test_deepest_and_last_mount_wins(path: str, kind: str) -> None:
    """A path belongs to the deepest mount above it, and there to the last one."""
    assert fs_type(Path(path), MOUNTINFO) == kind


def test_unknown_without_mountinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc/self/mountinfo, no path is on a network file system."""
    monkeypatch.setattr(filesystem, "MOUNTINFO", tmp_path / "none")

    assert network_fs_type(tmp_path) is None


def test_symbolic_link_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A symbolic link to a network file system is on a network file system."""
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far")
    table = tmp_path / "mountinfo"
    table.write_text(f"1 1 0:1 / / rw - ext4 x rw\n2 1 0:2 / {tmp_path / 'far'} rw - nfs x rw\n")
    monkeypatch.setattr(filesystem, "MOUNTINFO", table)

    assert network_fs_type(tmp_path / "link" / "state.db") == "nfs"
