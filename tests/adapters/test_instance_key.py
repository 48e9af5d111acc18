"""The key by which clients recognize their daemon."""

import stat
from pathlib import Path
from resource import RLIMIT_FSIZE

from poller.runtime.instance_key import ensure_key, proof, read_key
from tests.support.store_builders import limited


def test_key_is_private_and_stays(tmp_path: Path):
    """The key is random, kept, and readable for its user alone, by every name of the database."""
    path, other, link = tmp_path / "state.db", tmp_path / "other.db", tmp_path / "link.db"
    link.symlink_to(path)
    key = ensure_key(path)

    assert (ensure_key(path), read_key(path), read_key(link)) == (key, key, key)
    assert ensure_key(other) != key
    assert stat.S_IMODE((tmp_path / "state.db.key").stat().st_mode) == 0o600


def test_key_that_others_can_read_or_that_is_cut_is_replaced(tmp_path: Path):
    """A key that others may have read, or that a full disk has cut, is made anew."""
    path = tmp_path / "state.db"
    key, file = ensure_key(path), tmp_path / "state.db.key"
    file.chmod(0o644)
    second = ensure_key(path)
    file.write_bytes(second[:3])
    cut, third = read_key(path), ensure_key(path)

    assert len({key, second, third}) == 3
    assert (len(third), cut, stat.S_IMODE(file.stat().st_mode)) == (32, b"", 0o600)


def test_key_that_cannot_be_made_is_empty(tmp_path: Path):
    """Without a place for the key there is none; nothing fails."""
    path = tmp_path / "missing" / "state.db"

    assert (ensure_key(path), read_key(path)) == (b"", b"")


def test_path_of_no_database_has_no_key(tmp_path: Path):
    """A path that is a loop of links, or a root folder, has no key; nothing fails."""
    path = tmp_path / "state.db"
    path.symlink_to(path)

    assert (read_key(path), read_key(Path("/"))) == (b"", b"")


def test_proof_depends_on_key_and_challenge():
    """A proof is of no use for another challenge, and cannot be made with another key."""
    proofs = {proof(key, text) for key in (b"a", b"b") for text in ("x", "y", "\udcff")}

    assert len(proofs) == 6


def test_full_disk_leaves_no_empty_key(tmp_path: Path):
    """A key that a full disk does not take is not there at all; a later start makes it."""
    path = tmp_path / "state.db"
    with limited(RLIMIT_FSIZE, 0):
        ensure_key(path)
    left = [*tmp_path.iterdir()]

    assert left == []
    assert ensure_key(path) == read_key(path) != b""
