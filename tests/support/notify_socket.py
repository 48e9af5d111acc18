"""An ear where a supervisor would listen: a datagram socket, and what came to it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

MESSAGE: Final = 4_096
"""The most bytes of a message that systemd reads."""


class Ear:
    """A supervisor's end of a socket. `address` is what NOTIFY_SOCKET says of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.setblocking(False)
        self._end.bind(address.replace("@", "\0"))
        self._heard: list[dict[str, str]] = []

    @property
    def heard(self) -> list[dict[str, str]]:
        """All messages until now, in the order of their coming."""
        while message := self._hear():
            assert len(message) <= MESSAGE
            lines = message.decode().split("\n")
            self._heard.append(dict(line.split("=", 1) for line in lines))
        return self._heard

    def _hear(self) -> bytes:
        try:
            return self._end.recv(MESSAGE + 1)
        except BlockingIOError:
            return b""

    @property
    def signs(self) -> list[str]:
        """The names of all assignments but statuses, in the order of their coming."""
        return [name for message in self.heard for name in message if name != "STATUS"]

    @property
    def statuses(self) -> list[str]:
        """All statuses, in the order of their coming."""
        return [message["STATUS"] for message in self.heard if "STATUS" in message]

    def close(self) -> None:
        """Hear no more."""
        self._end.close()


@contextmanager
def listening(name: str | None = None) -> Iterator[Ear]:
    """Open an ear at a name in the abstract, or at a path."""
    with TemporaryDirectory() as folder:  # short, as the path of a socket has to be
        it = Ear(f"@{name}" if name else str(Path(folder, "notify")))
        try:
            yield it
        finally:
            it.close()
