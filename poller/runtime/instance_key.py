"""The instance key: a secret beside the database, by which a client recognizes its own daemon.

The daemon proves that it has the key without showing it. So neither another daemon at its address
nor a program of a user who cannot read the key passes for it, even if it has seen earlier proofs.
"""

import hmac
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

CHALLENGE: Final = "Poller-Challenge"
"""The header of a request with a random text."""
PROOF: Final = "Poller-Proof"
"""The header of the response that proves the key."""
KEY_BYTES: Final = 32
PRIVATE_MODE: Final = 0o600


def read_key(database: Path) -> bytes:
    """Return the key of the daemon of a database; empty if there is none, or none to read."""
    with suppress(OSError), _key_path(database).open("rb") as file:
        key = file.read(KEY_BYTES)
        return key if len(key) == KEY_BYTES else b""
    return b""


def ensure_key(database: Path) -> bytes:
    """Return the key of a database after creating it where it is missing or not private."""
    path = _key_path(database)
    key = read_key(database)
    with suppress(OSError):  # such as a full disk: clients find no key and cannot check it
        if key and not path.stat().st_mode & ~PRIVATE_MODE & 0o777:
            return key
        path.unlink(missing_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
        try:
            key = os.urandom(KEY_BYTES)
            if os.write(file, key) < KEY_BYTES:
                path.unlink()
        except OSError:
            path.unlink()
        finally:
            os.close(file)
    return key


def proof(key: bytes, challenge: str) -> str:
    """Return the proof that the key is known, for one challenge."""
    return hmac.digest(key, challenge.encode(errors="replace"), "sha256").hex()


def _key_path(database: Path) -> Path:
    # `Path.resolve` may raise for a loop of links, and `with_name` does for a root folder.
    return Path(f"{os.path.realpath(database)}.key")
