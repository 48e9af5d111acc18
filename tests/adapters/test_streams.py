"""The standard streams of a command: what becomes of text that cannot be written."""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from poller.runtime import streams


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch):
    """Do not wait for a reader."""
    monkeypatch.setattr(streams._LossyFile, "_patience", 0.0)
    monkeypatch.setattr(streams, "READER_PATIENCE", 0.0)
    streams.prepare()


@pytest.fixture(params=["full device", "no reader", "reader that hangs"])
def broken(request: pytest.FixtureRequest) -> Iterator[io.TextIOWrapper]:
    """Yield a stream that nothing can be written to."""
    reading, writing = os.pipe()
    if request.param == "full device":
        os.close(writing)
        writing = os.open("/dev/full", os.O_WRONLY)
    elif request.param == "no reader":
        os.close(reading)
        reading = os.open(os.devnull, os.O_RDONLY)
    else:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, b" " * 4096)
        os.set_blocking(writing, True)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        yield stream
        os.close(reading)


def test_stderr_never_fails(broken: io.TextIOWrapper):
    """Text that cannot be written is lost, and neither a write nor a flush raises."""
    stream = streams.lossy(broken)

    for _ in range(3):
        print("x" * 10_000, file=stream, flush=True)
    stream.close()


def test_stderr_is_written_whole():
    """A text of any length arrives, in parts that a pipe takes at once."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        lossy = streams.lossy(stream)
        print("ü" * 10_000, file=lossy)
        lossy.close()

    with os.fdopen(reading, encoding="utf-8") as sent:
        assert sent.read() == "ü" * 10_000 + "\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_text_survives_every_encoding(encoding: str):
    """What an encoding lacks is escaped as in JSON, so that JSON stays JSON."""
    text = 'é "要約" 😀 €'
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors=streams.ESCAPE)

    stream.write(json.dumps(text, ensure_ascii=False))
    stream.flush()

    assert json.loads(raw.getvalue().decode(encoding)) == text
    assert b"\\u" in raw.getvalue() or encoding == "utf-8"


def test_closed_streams_are_opened(monkeypatch: pytest.MonkeyPatch):
    """Streams that a shell has closed are there, empty, and swallow what is written."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)

    streams.prepare()

    with sys.stdin, sys.stdout, sys.stderr:
        assert sys.stdin.read() == ""
        for stream in (sys.stdout, sys.stderr):
            print("要約", file=stream, flush=True)


def test_stderr_of_the_process_is_protected(monkeypatch: pytest.MonkeyPatch):
    """The stream of the process is replaced once, by one onto the same file."""
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)

    streams.prepare()
    protected = sys.stderr
    streams.prepare()

    assert protected is not sys.__stderr__
    assert sys.stderr is protected
    assert protected.fileno() == sys.__stderr__.fileno()


def test_escapes_are_for_writing_only():
    """A text that cannot be read is an error."""
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", streams.ESCAPE)
