"""Standard output, written by a thread of its own.

Whoever reads it may stop reading, or go away, and the disk behind it may be full: none of that may
hold up a loop that polls, or end the process. A line of the log that finds no room is dropped and
counted; a line that somebody waits for is theirs to try again.
"""

import queue
import threading
from dataclasses import dataclass, field
from typing import Final, TextIO

MAX_QUEUED_LINES: Final = 10_000


@dataclass(slots=True)
class PendingWrite:
    """A text on its way out. `error` says why it did not get there, once `wait` has returned."""

    text: str
    error: OSError | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Block until the text is written, or not to be written. Raises OSError."""
        self._done.wait()
        if self.error:
            raise self.error

    def close(self, error: OSError | None) -> None:
        """Say what became of the text."""
        self.error = error
        self._done.set()


class NonBlockingStdout:
    """A stream that never blocks and never fails whoever writes a line of the log to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._writes: queue.Queue[PendingWrite | None] = queue.Queue(MAX_QUEUED_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_on, name="output", daemon=True)
        self._thread.start()

    def isatty(self) -> bool:
        """Tell whether a person reads it."""
        return self._stream.isatty()

    def write(self, text: str) -> int:
        """Take a text without waiting; drop it when too many wait already."""
        try:
            self.submit(text)
        except OSError:
            self._dropped += 1
        return len(text)

    def flush(self) -> None:
        """Do nothing: every text is flushed when it is written."""

    def submit(self, text: str) -> PendingWrite:
        """Take a text that somebody waits for. Raises OSError when too many wait already."""
        ticket = PendingWrite(text)
        try:
            self._writes.put_nowait(ticket)
        except queue.Full:
            raise BlockingIOError(0, "nobody reads it") from None
        return ticket

    def close(self, within: float) -> None:
        """Write what waits, for so many seconds at most."""
        try:
            self._writes.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(within)

    def _write_on(self) -> None:
        while ticket := self._writes.get():
            dropped, self._dropped = self._dropped, 0
            if dropped:
                self._put(f"({dropped} lines of the log are missing here: nobody read them)\n")
            ticket.close(self._put(ticket.text))

    def _put(self, text: str) -> OSError | None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError) as error:
            return error if isinstance(error, OSError) else OSError(0, "stdout is closed")
        return None
