"""The standard streams of a command: always open, in any encoding, and stderr never fails."""

import codecs
import io
import json
import os
import select
import sys
from typing import Any, Final, TextIO

ESCAPE: Final = "poller.escape"
READER_PATIENCE: Final = 1.0
"""Seconds that a write to stderr waits for a reader that does not keep up."""


def prepare() -> None:
    """Open the streams that are closed, escape what an encoding lacks, and protect stderr.

    A closed stream is None to Python, and its number goes to the next file that is opened.
    """
    codecs.register_error(ESCAPE, _escape)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free number is that of the stream.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=ESCAPE)
    if sys.__stderr__ and sys.stderr is sys.__stderr__:  # not that of a test
        sys.stderr = lossy(sys.__stderr__)


def lossy(stream: TextIO) -> TextIO:
    """Return a stream onto the same file whose writes never fail: text that cannot go is lost."""
    raw = _LossyFile(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=ESCAPE, line_buffering=True
    )


class _LossyFile(io.FileIO):
    """A file whose `write` never raises, and does not wait for long."""

    _patience = READER_PATIENCE

    def write(self, data: Any, /) -> int:
        written = None
        try:
            _, ready, _ = select.select((), (self,), (), self._patience)
            self._patience = READER_PATIENCE if ready else 0.0
            if ready:  # a pipe that is ready takes this much without waiting
                written = super().write(memoryview(data)[: select.PIPE_BUF])
        except OSError:
            pass
        return len(data) if written is None else written


def _escape(error: UnicodeError) -> tuple[str, int]:
    r"""Return \uXXXX for each character that an encoding lacks: in JSON that is the character."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
