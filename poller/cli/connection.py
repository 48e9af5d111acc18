"""A connection to the door of a running daemon. It imports little, for verbs that must be light."""

import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from poller.runtime.address import LOCALHOST, ListenAddress

EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to ask, not to listen
"""Where a daemon is asked that listens on all addresses."""


def connection(address: ListenAddress, *, timeout: float) -> HTTPConnection:
    """Give a connection to a door; each step takes so many seconds at most. Raises OSError."""
    host = EVERYWHERE.get(address.host, address.host or LOCALHOST)
    made = HTTPConnection(host, address.port or None, timeout=timeout)
    if address.path:
        made.sock = _through(address.path, timeout)
    return made


def _through(path: Path, timeout: float) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.settimeout(timeout)
        peer.connect(str(path))
    except OSError:
        peer.close()
        raise
    return peer
