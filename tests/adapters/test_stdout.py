"""Standard output with a reader that is slow or gone, or a full disk."""

import io
import threading
from collections.abc import Callable

import pytest

from poller.runtime import stdout as module
from poller.runtime.stdout import NonBlockingStdout


class Stream(io.StringIO):
    """A stream that blocks until it is opened, and raises `trouble`."""

    def __init__(self, trouble: Exception | None = None) -> None:
        super().__init__()
        self.trouble = trouble
        self.is_open = threading.Event()
        self.is_reached = threading.Event()

    def write(self, text: str) -> int:
        """Write once the stream is open, or raise."""
        self.is_reached.set()
        self.is_open.wait(10.0)
        if self.trouble:
            raise self.trouble
        return super().write(text)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> tuple[NonBlockingStdout, Stream]:
    """Return an output with room for two lines; its thread is blocked with a third."""
    monkeypatch.setattr(module, "MAX_QUEUED_LINES", 2)
    stream = Stream()
    stdout = NonBlockingStdout(stream)
    stdout.write("first\n")
    assert stream.is_reached.wait(10.0)
    return stdout, stream


def test_stdout_keeps_the_order_of_lines():
    """Lines are written in order, and `close` waits for them."""
    stream = Stream()
    stream.is_open.set()
    stdout = NonBlockingStdout(stream)

    for number in range(100):
        stdout.write(f"{number}\n")
    stdout.flush()
    stdout.close(10.0)

    assert stream.getvalue() == "".join(f"{number}\n" for number in range(100))


def test_stdout_drops_and_counts_lines_when_full(blocked: tuple[NonBlockingStdout, Stream]):
    """Writing never waits: lines without room are dropped, and a line reports how many."""
    stdout, stream = blocked
    second = stdout.submit("second\n")
    for number in range(4):
        stdout.write(f"{number}\n")

    stream.is_open.set()
    second.result()
    stdout.submit("last\n").result()

    lines = stream.getvalue().splitlines()
    assert lines[0] == "first"
    assert "(3 log lines dropped here: the reader did not keep up)" in lines
    assert lines[-1] == "last"


def test_stdout_submit_raises_when_full(
    blocked: tuple[NonBlockingStdout, Stream],
):
    """`submit` raises, so that its caller can retry."""
    stdout, stream = blocked
    stdout.write("second\n")
    stdout.write("third\n")

    with pytest.raises(OSError, match="its reader does not keep up"):
        stdout.submit("event\n")
    stream.is_open.set()


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: OSError(28, "No space left"), "No space left"), (lambda: ValueError("x"), "closed")],
)
def test_stdout_failure_is_raised_only_by_its_future(make: Callable[[], Exception], message: str):
    """A log line is lost silently; the future of a write raises the reason."""
    stream = Stream(make())
    stream.is_open.set()
    stdout = NonBlockingStdout(stream)
    stdout.write("log\n")

    with pytest.raises(OSError, match=message):
        stdout.submit("event\n").result()
