"""The file sink, with real files: whole lines, rotation, and disks that are full or hang."""

import errno
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag

import anyio
import pytest

from poller.core.errors import ConfigError, DeliveryError
from poller.core.outbox import Delivery
from poller.sinks import file
from poller.sinks.file import KIND, MIN_MAX_BYTES
from poller.sinks.testing import open_sink, sample_delivery
from tests.support.waiting import until


async def send(path: Path, *deliveries: Delivery, **settings: str) -> str | None:
    """Send deliveries to a file; return the reason of the first failure."""
    async with open_sink(KIND, path=str(path), **settings) as sink:
        try:
            for delivery in deliveries or (sample_delivery(),):
                await sink.send(delivery)
        except DeliveryError as error:
            return error.reason
    return None


def names(folder: Path) -> list[str]:
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def lines(path: Path) -> list[bytes]:
    """Return the lines of a file, each of which must have an end."""
    *whole, rest = path.read_bytes().split(b"\n")
    assert rest == b""
    return whole


def name_of(number: int) -> str:
    """Return the path of an open file."""
    return str(Path(f"/proc/self/fd/{number}").readlink())


async def test_file_gets_each_event_with_its_id_as_a_line(tmp_path: Path):
    """A line is the body that every other sink gets, and the id, by which repetitions are known."""
    deliveries = [sample_delivery("job.started"), sample_delivery(name="Tränen\n\u2028")]
    path = tmp_path / "events.jsonl"

    assert await send(path, *deliveries) is None

    assert [json.loads(line) for line in lines(path)] == [
        {"id": delivery.event.id} | json.loads(delivery.event.body) for delivery in deliveries
    ]


async def test_file_with_a_line_that_was_cut_off_is_continued_on_a_new_line(tmp_path: Path):
    """What a crash left of a line does not damage the next one."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"type":"job.st')

    await send(path)

    assert lines(path) == [b'{"type":"job.st', sample_delivery().event.line[:-1]]


async def test_file_is_written_once_and_synced_for_each_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One write has the whole line, so that no reader sees half of it; then it is made durable."""
    calls = []
    for name in ("write", "fsync"):
        real = getattr(os, name)

        def record(number: int, *data: bytes, name=name, real=real) -> int | None:
            calls.append((name, *map(len, data), name_of(number)))
            return real(number, *data)

        monkeypatch.setattr(file.os, name, record)
    path = tmp_path / "events.jsonl"

    await send(path)
    await send(path)

    size = len(sample_delivery().event.line)
    new, old = ("fsync", str(tmp_path)), [("write", size, str(path)), ("fsync", str(path))]
    assert [call for call in calls if call[-1].startswith(str(tmp_path))] == [new, *old, *old]


async def test_file_is_renamed_at_its_size(tmp_path: Path):
    """The file and the one before it stay below the size, and no event is split between them."""
    path = tmp_path / "events.jsonl"
    delivery = sample_delivery(description="x" * 3_000)
    each = len(delivery.event.line)

    count = MIN_MAX_BYTES // each
    await send(path, *[delivery] * (count + 1), max_bytes=str(MIN_MAX_BYTES))
    before = [len(lines(path)), len(lines(tmp_path / "events.jsonl.1"))]
    await send(path, *[delivery] * count, max_bytes=str(MIN_MAX_BYTES))

    assert before == [1, count]
    assert [len(lines(path)), len(lines(tmp_path / "events.jsonl.1"))] == [1, count]
    assert names(tmp_path) == ["events.jsonl", "events.jsonl.1"]


async def test_file_that_was_moved_away_is_begun_anew(tmp_path: Path):
    """A program such as logrotate may rename the file at any time."""
    path = tmp_path / "events.jsonl"
    async with open_sink(KIND, path=str(path)) as sink:
        await sink.send(sample_delivery("job.started"))
        path.rename(tmp_path / "old")
        await sink.send(sample_delivery())

    assert (len(lines(tmp_path / "old")), len(lines(path))) == (1, 1)


def a_folder(path: Path) -> None:
    """Put a folder where the file should be."""
    path.mkdir()


def a_pipe(path: Path) -> None:
    """Put a pipe there, which nobody reads."""
    os.mkfifo(path)


def a_device(path: Path) -> None:
    """Put a link there to a device."""
    path.symlink_to("/dev/full")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (a_folder, "Is a directory"),
        (a_pipe, "it is not a regular file"),
        (a_device, "it is not a regular file"),
        (lambda path: path.symlink_to("none/none"), "No such file or directory"),
    ],
)
async def test_file_that_cannot_be_written_is_a_reason(tmp_path: Path, prepare, reason: str):
    """The path and the system's words are the reason; the event is sent again later."""
    path = tmp_path / "events.jsonl"
    prepare(path)

    found = await send(path)

    assert found == f"cannot append to {path}: {reason}"


async def test_file_on_a_disk_that_is_read_only_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A disk that the kernel has made read-only fails like any other, and nothing is delivered."""

    def fail(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    path = tmp_path / "events.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(file.os, "open", fail)
        found = await send(path)

    assert found == f"cannot append to {path}: Read-only file system"


@pytest.fixture
def disk_limit() -> Iterator[int]:
    """Yield the size from which on files of this process cannot grow, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    yield 1_000
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


async def test_file_on_a_disk_that_fills_up_gets_the_event_when_there_is_space(
    tmp_path: Path, disk_limit: int
):
    """Half a line is a failure, and the event follows whole on a line of its own."""
    path = tmp_path / "events.jsonl"
    first = sample_delivery("job.started")
    second = sample_delivery()
    assert len(first.event.line) < disk_limit - 10

    full = await send(path, first, second)
    half = path.read_bytes()
    again = await send(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    healed = await send(path)

    assert full == f"cannot append to {path}: No space left on device"
    assert len(half) == disk_limit
    assert again == f"cannot append to {path}: File too large"
    assert healed is None
    whole = [line + b"\n" for line in lines(path) if line.endswith(b"}}")]
    assert whole == [first.event.line, second.event.line]


async def test_file_that_cannot_be_synced_is_not_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is not on the disk is sent again, with the same id."""
    path = tmp_path / "events.jsonl"
    path.touch()

    def fail(number: int) -> None:
        if "events.jsonl" in name_of(number):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(file.os, "fsync", fail)
        failed = await send(path)
    again = await send(path)

    assert (failed, again) == (f"cannot append to {path}: Input/output error", None)
    assert [json.loads(line)["id"] for line in lines(path)] == [sample_delivery().event.id] * 2


async def test_file_on_a_disk_that_hangs_holds_up_neither_the_loop_nor_its_thread_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One thread waits for the disk, however many events there are, and goes on after that."""
    hung, released, waiting = Flag(), Flag(), 0
    real = file.append

    def append(*arguments: object) -> None:
        nonlocal waiting
        waiting += 1
        hung.set()
        released.wait()
        real(*arguments)

    monkeypatch.setattr(file, "append", append)
    path = tmp_path / "events.jsonl"

    async with open_sink(KIND, path=str(path)) as sink, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(sink.send, sample_delivery())
        await until(hung.is_set)
        held_up = (waiting, path.exists())
        released.set()

    assert held_up == (1, False)
    assert len(lines(path)) == 5


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "POLLER_TEST_PATH: is required"),
        ({"path": "/events", "max_bytes": "100"}, "POLLER_TEST_MAX_BYTES: must be greater than"),
        ({"path": "/events", "max_bytes": "10 MB"}, "POLLER_TEST_MAX_BYTES: must be a whole"),
    ],
)
async def test_file_settings_that_are_wrong_are_one_line(settings: dict[str, str], problem: str):
    """A size that would replace the file every few events is a mistake."""
    with pytest.raises(ConfigError, match=problem):
        async with open_sink(KIND, **settings):
            pass
