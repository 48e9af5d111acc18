"""Connect to the HTTP API of a running daemon. Imports little, for verbs that must be light."""

import json
import os
import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Final, NamedTuple

from poller.runtime.address import LOCALHOST, ListenAddress
from poller.runtime.instance_key import CHALLENGE, KEY_BYTES, PROOF, proof, read_key

LOOPBACK_FOR: Final = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - to connect, not to listen
"""The loopback address to connect to where the daemon listens on all addresses."""

RESPONSE_BYTES_CAP: Final = 65_536


class Readiness(NamedTuple):
    """The response to a readiness probe. `is_own`: it comes from the daemon whose key was given."""

    is_ready: bool
    reasons: list[str]
    is_own: bool


def find_key(address: ListenAddress, store: str, *, is_set: bool) -> bytes:
    """Return the key that the daemon at an address must prove; empty if the address is enough.

    The default address, which is not `is_set`, names no daemon: any may listen there, or another
    program. A socket belongs to its user; a daemon does not start if another has its address.
    Raises ValueError.
    """
    key = b"" if address.path else read_key(Path(store))
    if not (key or is_set or address.path):
        raise ValueError(
            f"{store}.key cannot be read, so any daemon may be at {address}: start the daemon,"
            " or set POLLER_STORE or POLLER_LISTEN to the daemon's value"
        )
    return key


def probe(http: HTTPConnection, key: bytes) -> Readiness:
    """Send a readiness probe. Raises OSError, HTTPException, and ValueError for other servers."""
    challenge = os.urandom(KEY_BYTES).hex()
    http.request("GET", "/readyz", headers={CHALLENGE: challenge} if key else {})
    response = http.getresponse()
    body = json.loads(response.read(RESPONSE_BYTES_CAP))
    if not isinstance(body, dict) or not isinstance(body.get("reasons"), list):
        raise ValueError("no reasons")
    # Nothing is proved yet: a stranger must not control the terminal.
    reasons = ["".join(filter(str.isprintable, str(reason))) for reason in body["reasons"]]
    is_own = not key or response.headers.get(PROOF) == proof(key, challenge)
    return Readiness(response.status == 200, reasons, is_own)


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
