"""What every sink does that sends to this machine, and not by HTTP: exec, file and log."""

import io
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event as Flag
from typing import Any, Final

import anyio
import pytest

from poller.core.errors import DeliveryError
from poller.core.events import RECORDED_TYPES, EventOrigin
from poller.core.outbox import Delivery
from poller.delivery.attempt import attempt
from poller.runtime import command
from poller.runtime.clock import Clock
from poller.runtime.redaction import MASK
from poller.runtime.stdout import NonBlockingStdout
from poller.sinks import Sink, file, load_kind
from poller.sinks.samples import test_event as a_test_event
from poller.sinks.testing import open_sink, sample_delivery
from tests.support.process_ids import all_ended, written
from tests.support.waiting import until

MAX_EVENT: Final = 20_000
MAX_LOG_LINE: Final = 16_384
NOW: Final = Clock().now()
JUNK: Final = "'\\377\\000\\033[31m{'"
"""Bytes as `printf` of a shell writes them: no text, an end of text, a color, half of an object."""
HOSTILE: Final = (
    "x" * 10_000,
    "<script>alert(1)</script> $(touch pwned) `id` ; rm -rf / & | > out",
    "\u05e9\u05dc\u05d5\u05dd \N{FAMILY} Tr\u00e4nen \u2713",
    'quote " back\\slash \' {"json": 1} %s %n {0}',
    "line\r\nline\x00\x1b[31m\u202e\u2028line",
)


@dataclass(frozen=True, slots=True)
class LocalKind:
    """A kind: its settings, and what makes an attempt fail, each by a name.

    A failure is a change of the settings, or of stdout. `is_whole` is whether an event of any size
    arrives whole.
    """

    settings: Callable[[Path], Mapping[str, str]]
    failures: Mapping[str, Callable[[Path], Mapping[str, str]]]
    is_whole: bool = True


def shell(script: str) -> dict[str, str]:
    """Return the setting that runs a script in a shell."""
    return {"command": json.dumps(["sh", "-c", script]), "timeout": "1m"}


KINDS: Final[Mapping[str, LocalKind]] = {
    "exec": LocalKind(
        lambda folder: shell(f"cat >> {folder}/out"),
        {
            "later": lambda _: shell("echo canary >&2; exit 75"),
            "junk": lambda _: shell(
                f"i=0; while [ $i -lt 600 ]; do printf {JUNK}; i=$((i + 1)); done; exit 75"
            ),
            "rejects": lambda _: shell("echo canary; exit 3"),
            "crashes": lambda _: shell("kill -SEGV $$"),
        },
    ),
    "file": LocalKind(
        lambda folder: {"path": f"{folder}/out"},
        {
            "no folder": lambda folder: {"path": f"{folder}/canary/out"},
            "a folder": lambda folder: {"path": f"{folder}"},
            "a device": lambda _: {"path": "/dev/null"},
        },
    ),
    "log": LocalKind(
        lambda _: {},
        {
            "a full disk": lambda _: {"stdout": "/dev/full"},
            "closed": lambda folder: {"stdout": f"{folder}/out"},
        },
        is_whole=False,
    ),
}
FAILURES: Final = [(kind, name) for kind in KINDS for name in KINDS[kind].failures]

pytestmark = pytest.mark.anyio
every_kind = pytest.mark.parametrize("kind", sorted(KINDS))


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have secrets in the environment, and time for commands on a busy machine."""
    monkeypatch.setenv("SUTRO_API_KEY", "sk-canary")
    monkeypatch.setenv("POLLER_SLACK_URL", "https://hooks.example/canary")
    monkeypatch.setattr(command, "KILL_SECONDS", 60.0)


@asynccontextmanager
async def opened(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, failure: str | None = None
) -> AsyncIterator[Sink]:
    """Open a sink that works, or one that fails in some way."""
    settings = dict(KINDS[kind].settings(folder))
    if failure:
        settings |= KINDS[kind].failures[failure](folder)
    stream = open(settings.pop("stdout", folder / "out"), "a", encoding="utf-8")  # noqa: ASYNC230, PTH123, SIM115
    if failure == "closed":
        stream.close()
    stdout = NonBlockingStdout(stream)
    monkeypatch.setattr(sys, "stdout", stdout)
    try:
        async with open_sink(load_kind(kind), **settings) as sink:
            yield sink
    finally:
        stdout.close(60.0)
        with suppress(OSError):  # what could not be written is still in the buffer
            stream.close()


def received(folder: Path) -> list[dict[str, Any]]:
    """Return the events that arrived, each of which is one line of JSON with an end."""
    *lines, rest = (folder / "out").read_bytes().split(b"\n")
    assert rest == b""
    return [json.loads(line) for line in lines]


def names(folder: Path) -> list[str]:
    """Return the names in a folder."""
    return [path.name for path in folder.iterdir()]


def as_sent(kind: str, delivery: Delivery) -> dict[str, Any]:
    """Return the part of what arrives that is the event."""
    event = delivery.event
    if kind == "log":
        return {"event": event.type, "event_id": event.id, **event.data}
    return {"id": event.id, **json.loads(event.body)}


@every_kind
@pytest.mark.parametrize("event_type", sorted(RECORDED_TYPES))
async def test_every_type_of_event_arrives(
    kind: str, event_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One event is one line, which has the id by which a repetition is known."""
    event = a_test_event(event_type, EventOrigin(deployment="a"), NOW, sink=kind, instance="i")
    delivery = Delivery(id=1, sink=kind, event=event, created_at=0.0)
    async with opened(kind, tmp_path, monkeypatch) as sink:
        for _ in range(2):
            assert await attempt(sink, delivery, secrets=tuple) is None

    expected = as_sent(kind, delivery)
    assert [line | expected for line in received(tmp_path)] == received(tmp_path)
    assert len(received(tmp_path)) == 2


@every_kind
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_name_is_text_and_nothing_else(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A name of any characters is data in one line, as the event has it."""
    delivery = sample_delivery("job.failed", name=name, failure_reason={"message": name[:1_000]})
    async with opened(kind, tmp_path, monkeypatch) as sink:
        await sink.send(delivery)

    (line,) = received(tmp_path)
    assert line | as_sent(kind, delivery) == line
    assert names(tmp_path) == ["out"]
    assert b"\x1b" not in (tmp_path / "out").read_bytes()


@every_kind
async def test_an_event_at_the_limit_of_its_size_arrives(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The largest event is one line; that of a log is cut to what log shippers take."""
    delivery = sample_delivery("job.failed")
    body = json.loads(delivery.event.body)
    body["data"]["pad"] = "\N{FAMILY}" * ((MAX_EVENT - len(delivery.event.body)) // 4 - 5)
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    delivery = replace(delivery, event=replace(delivery.event, body=text))
    async with opened(kind, tmp_path, monkeypatch) as sink:
        await sink.send(delivery)

    (line,) = received(tmp_path)
    assert MAX_EVENT - 40 < len(text) <= MAX_EVENT
    if KINDS[kind].is_whole:
        assert line == as_sent(kind, delivery)
    else:
        assert (line["truncated"], line["event_id"]) == (True, delivery.event.id)
        assert len((tmp_path / "out").read_bytes()) <= MAX_LOG_LINE


@pytest.mark.parametrize(("kind", "failure"), FAILURES)
async def test_a_failure_is_retried_and_has_a_short_reason(
    kind: str, failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever fails here may work again: nothing is dead at once, and no secret is in a reason."""
    async with opened(kind, tmp_path, monkeypatch, failure) as sink:
        error = await attempt(sink, sample_delivery("job.failed"), secrets=lambda: ["canary"])

    assert error
    assert (error.is_permanent, error.is_gone, error.is_rejected) == (False, False, False)
    assert error.is_sink_fault is not error.is_suspect
    assert error.is_suspect is (failure in {"rejects", "crashes"})
    assert error.reason.isprintable()
    assert len(error.reason) <= 1_000
    assert "canary" not in repr(error) + str(error)
    assert (MASK in error.reason) is (failure in {"later", "rejects", "no folder"})


@every_kind
async def test_a_sink_that_has_failed_works_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """After a failure the same event arrives, once."""
    failure = min(KINDS[kind].failures)
    async with opened(kind, tmp_path, monkeypatch, failure) as sink:
        with pytest.raises(DeliveryError):
            await sink.send(sample_delivery())
    (tmp_path / "out").unlink(missing_ok=True)
    async with opened(kind, tmp_path, monkeypatch) as sink:
        await sink.send(sample_delivery())

    assert len(received(tmp_path)) == 1


class StoppedStream(io.StringIO):
    """A stream whose reader has stopped."""

    def __init__(self, hang: Callable[[], object]) -> None:
        super().__init__()
        self.hang = hang

    def write(self, text: str) -> int:
        """Wait until the reader goes on."""
        self.hang()
        return super().write(text)


@every_kind
async def test_a_call_that_hangs_can_be_left(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The end of the daemon kills a command, and does not wait for a disk or for a reader."""
    hung, released, ids = Flag(), Flag(), tmp_path / "ids"

    def hang(*_: object) -> None:
        hung.set()
        released.wait()

    settings = dict(KINDS[kind].settings(tmp_path))
    if kind == "exec":
        settings = shell(f"echo $$ > {ids}; exec sleep 1000")
    stdout = NonBlockingStdout(StoppedStream(hang))
    monkeypatch.setattr(file, "append", hang)
    monkeypatch.setattr(sys, "stdout", stdout)
    async with open_sink(load_kind(kind), **settings) as sink:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(attempt, sink, sample_delivery(), secrets=tuple))
            await until(lambda: hung.is_set() or written(ids, 1))
            tasks.cancel_scope.cancel()
        released.set()
    stdout.close(60.0)

    assert kind != "exec" or await all_ended(written(ids, 1))


@every_kind
async def test_a_call_that_is_cancelled_ends(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The end of the daemon does not wait for a sink, and the next start sends the event again."""
    async with opened(kind, tmp_path, monkeypatch) as sink:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await sink.send(sample_delivery())
        await sink.send(sample_delivery())

    ids = {line.get("id") or line["event_id"] for line in received(tmp_path)}
    assert ids == {sample_delivery().event.id}
    assert os.environ["SUTRO_API_KEY"] == "sk-canary"
