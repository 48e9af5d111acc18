"""Standard output, written by a thread.

A reader that stops reading or exits, or a full disk, must not block the event loop or end the
process. If the queue is full, log lines are dropped and counted; `submit` raises, so that the
caller can retry.
"""

import queue
import threading
from dataclasses import dataclass, field
from typing import Final, TextIO

MAX_QUEUED_LINES: Final = 10_000


@dataclass(slots=True)
class PendingWrite:
    """A text in the queue; `error` is set if it could not be written."""

    text: str
    error: OSError | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Block until the text is written. Raises OSError if that fails."""
        self._done.wait()
        if self.error:
            raise self.error

    def close(self, error: OSError | None) -> None:
        """Record the result and wake up the waiting thread."""
        self.error = error
        self._done.set()


class NonBlockingStdout:
    """A stream whose `write` never blocks and never raises."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._writes: queue.Queue[PendingWrite | None] = queue.Queue(MAX_QUEUED_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_queued, name="output", daemon=True)
        self._thread.start()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream.isatty()

    def write(self, text: str) -> int:
        """Queue a text; drop it if the queue is full."""
        try:
            self.submit(text)
        except OSError:
            self._dropped += 1
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread flushes every text."""

    def submit(self, text: str) -> PendingWrite:
        """Queue a text, and return it to wait for. Raises OSError if the queue is full."""
        pending = PendingWrite(text)
        try:
            self._writes.put_nowait(pending)
        except queue.Full:
            raise BlockingIOError(0, "its reader does not keep up") from None
        return pending

    def close(self, within: float) -> None:
        """Write the rest of the queue, for this many seconds at most."""
        try:
            self._writes.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(within)

    def _write_queued(self) -> None:
        while pending := self._writes.get():
            dropped, self._dropped = self._dropped, 0
            if dropped:
                self._put(f"({dropped} log lines dropped here: the reader did not keep up)\n")
            pending.close(self._put(pending.text))

    def _put(self, text: str) -> OSError | None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError) as error:
            return error if isinstance(error, OSError) else OSError(0, "stdout is closed")
        return None
