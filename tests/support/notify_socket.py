"""The socket of systemd's side of sd_notify, and the messages that arrive there."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

MAX_MESSAGE_BYTES: Final = 4_096
"""systemd reads no longer message."""


class NotifySocket:
    """systemd's end of the socket; `address` is the value of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.setblocking(False)
        self._end.bind(address.replace("@", "\0"))
        self._messages: list[dict[str, str]] = []

    @property
    def messages(self) -> list[dict[str, str]]:
        """All messages until now, in order of arrival."""
        while message := self._receive():
            assert len(message) <= MAX_MESSAGE_BYTES
            lines = message.decode().split("\n")
            self._messages.append(dict(line.split("=", 1) for line in lines))
        return self._messages

    def _receive(self) -> bytes:
        try:
            return self._end.recv(MAX_MESSAGE_BYTES + 1)
        except BlockingIOError:
            return b""

    @property
    def names(self) -> list[str]:
        """The names of all assignments except STATUS, in order of arrival."""
        return [name for message in self.messages for name in message if name != "STATUS"]

    @property
    def statuses(self) -> list[str]:
        """All statuses, in order of arrival."""
        return [message["STATUS"] for message in self.messages if "STATUS" in message]

    def close(self) -> None:
        """Close the socket."""
        self._end.close()


@contextmanager
def listening(name: str | None = None) -> Iterator[NotifySocket]:
    """Open a socket with an abstract name, or at a path."""
    with TemporaryDirectory() as folder:  # the path of a socket must be short
        opened = NotifySocket(f"@{name}" if name else str(Path(folder, "notify")))
        try:
            yield opened
        finally:
            opened.close()
