"""Ports of this machine where nothing listens."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

CLOSED_URL: Final = "http://127.0.0.1:9"
"""A URL where nothing listens: the system gives this port to nobody who wants any free one."""


@contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port of 127.0.0.1 that is closed until the test opens it, and that is its own.

    It is bound, so the system gives it to nobody else. A server may still listen on it, because
    servers set SO_REUSEADDR.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
