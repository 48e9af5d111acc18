"""Connect to the HTTP API of a running daemon. Imports little, for verbs that must be light."""

import socket
from http.client import HTTPConnection
from typing import Final

from poller.runtime.address import LOCALHOST, ListenAddress

LOOPBACK_FOR: Final = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - to connect, not to listen
"""The loopback address to connect to where the daemon listens on all addresses."""


def connection(address: ListenAddress, *, timeout: float) -> HTTPConnection:
    """Return a connection; each of its steps takes at most `timeout` seconds. Raises OSError."""
    host = LOOPBACK_FOR.get(address.host, address.host or LOCALHOST)
    http = HTTPConnection(host, address.port or None, timeout=timeout)
    if address.path:
        http.sock = socket.socket(socket.AF_UNIX)
        try:
            http.sock.settimeout(timeout)
            http.sock.connect(str(address.path))
        except OSError:
            http.close()
            raise
    return http
