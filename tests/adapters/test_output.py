"""Standard output whose reader is slow, gone or full."""

import io
import threading
from collections.abc import Callable

import pytest

from poller.runtime import stdout as output
from poller.runtime.stdout import NonBlockingStdout


class Stream(io.StringIO):
    """A stream that lets a text through when it is told to, or refuses all."""

    def __init__(self, trouble: Exception | None = None) -> None:
        super().__init__()
        self.trouble = trouble
        self.is_open = threading.Event()
        self.is_reached = threading.Event()

    def write(self, text: str) -> int:
        """Write once the stream is open, or raise what was asked for."""
        self.is_reached.set()
        self.is_open.wait(10.0)
        if self.trouble:
            raise self.trouble
        return super().write(text)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> tuple[NonBlockingStdout, Stream]:
    """Give an output with room for two lines, whose reader does not read; it holds a third."""
    monkeypatch.setattr(output, "MAX_QUEUED_LINES", 2)
    stream = Stream()
    it = NonBlockingStdout(stream)
    it.write("first\n")
    assert stream.is_reached.wait(10.0)
    return it, stream


def test_lines_come_in_order():
    """What is written comes out in the order of writing, and a close waits for it."""
    stream = Stream()
    stream.is_open.set()
    it = NonBlockingStdout(stream)

    for number in range(100):
        it.write(f"{number}\n")
    it.flush()
    it.close(10.0)

    assert stream.getvalue() == "".join(f"{number}\n" for number in range(100))


def test_lines_that_nobody_reads_are_dropped_and_counted(blocked: tuple[NonBlockingStdout, Stream]):
    """Writing never waits: what finds no room is gone, and a line says how many."""
    it, stream = blocked
    second = it.submit("second\n")
    for number in range(4):
        it.write(f"{number}\n")

    stream.is_open.set()
    second.wait()
    it.submit("last\n").wait()

    lines = stream.getvalue().splitlines()
    assert lines[0] == "first"
    assert "(3 log lines dropped here: the reader did not keep up)" in lines
    assert lines[-1] == "last"


def test_a_line_that_is_waited_for_is_refused_when_there_is_no_room(
    blocked: tuple[NonBlockingStdout, Stream],
):
    """Whoever waits for a line is told, and can try it again."""
    it, stream = blocked
    it.write("second\n")
    it.write("third\n")

    with pytest.raises(OSError, match="its reader does not keep up"):
        it.submit("event\n")
    stream.is_open.set()


@pytest.mark.parametrize(
    ("make", "told"),
    [(lambda: OSError(28, "No space left"), "No space left"), (lambda: ValueError("x"), "closed")],
)
def test_a_stream_that_fails_fails_only_whoever_waits(make: Callable[[], Exception], told: str):
    """A line of the log is lost without a word; a line that is waited for says why."""
    stream = Stream(make())
    stream.is_open.set()
    it = NonBlockingStdout(stream)
    it.write("log\n")

    with pytest.raises(OSError, match=told):
        it.submit("event\n").wait()
