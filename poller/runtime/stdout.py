"""Standard output, written by a thread.

A reader that stops reading or exits, or a full disk, must not block the event loop or end the
process. If the queue is full, log lines are dropped and counted; `submit` raises, so that the
caller can retry.
"""

import queue
import threading
from concurrent.futures import Future
from typing import Final, TextIO

MAX_QUEUED_LINES: Final = 10_000


class NonBlockingStdout:
    """A stream whose `write` never blocks and never raises."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._writes: queue.Queue[tuple[str, Future[None]] | None] = queue.Queue(MAX_QUEUED_LINES)
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

    def submit(self, text: str) -> Future[None]:
        """Queue a text; return a future that is done when it is written, or has the OSError.

        Raises OSError if the queue is full.
        """
        written = Future[None]()
        written.set_running_or_notify_cancel()  # otherwise a waiter that leaves would cancel it
        try:
            self._writes.put_nowait((text, written))
        except queue.Full:
            raise BlockingIOError(0, "its reader does not keep up") from None
        return written

    def close(self, within: float) -> None:
        """Write the rest of the queue, for this many seconds at most."""
        try:
            self._writes.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(within)

    def _write_queued(self) -> None:
        while write := self._writes.get():
            text, written = write
            dropped, self._dropped = self._dropped, 0
            if dropped:
                text = f"({dropped} log lines dropped here: the reader did not keep up)\n{text}"
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError) as error:
                is_closed = isinstance(error, ValueError)
                written.set_exception(OSError(0, "stdout is closed") if is_closed else error)
            else:
                written.set_result(None)
