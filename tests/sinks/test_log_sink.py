"""The log sink: one line per event."""

import errno
import io
import json
import threading
from datetime import UTC, datetime
from typing import Any, Final

import anyio
import pytest
import structlog
from hypothesis import given

from poller.core.errors import DeliveryError
from poller.core.events import Event
from poller.core.outbox import Delivery
from poller.core.parsing import parse_job
from poller.runtime import streams
from poller.runtime.clock import Clock
from poller.runtime.console import ConsoleRenderer
from poller.runtime.stdout import NonBlockingStdout
from poller.settings.base import Reloadable
from poller.sinks import SinkContext
from poller.sinks.log import KIND, LogSettings, LogSink, _json, open_sink
from tests.core.test_parsing_properties import JOB_OBJECTS

BODY: Final = (
    '{"type":"job.succeeded","timestamp":"t","data":{"job":{"name":"Tränen"},"sequence":2}}'
)
FAILED: Final = json.dumps(
    {
        "type": "job.failed",
        "data": {
            "job": {
                "job_id": "job-2",
                "name": "Reviews",
                "output_tokens": 9700,
                "job_cost": 0.02744,
                "failure_reason": {"message": "zu viele Tränen"},
            },
            "run_seconds": 4.8,
        },
    }
)


NOW: Final = datetime(2024, 1, 15, 10, 32, 17, 250_000, UTC).timestamp()
CLOCK: Final = Clock(wall=lambda: NOW, monotonic=lambda: 0.0)


def a_delivery(number: int = 1, body: str = BODY) -> Delivery:
    """Return a delivery to the log sink."""
    event = Event(
        id=f"evt_{number}",
        type=json.loads(body)["type"],
        subject="job-1",
        occurred_at=datetime(2024, 1, 15, 10, 32, 15, tzinfo=UTC),
        body=body.encode(),
    )
    return Delivery(id=number, sink="log", event=event, created_at=0.0)


@pytest.fixture
def _json_log():
    """Write the log as JSON, as a service does."""
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    yield
    structlog.reset_defaults()


async def test_log_sink_line():
    """A line begins like any log line; then come the id and time of the event, and its data."""
    stream = io.StringIO()
    await LogSink(NonBlockingStdout(stream), clock=CLOCK).send(a_delivery())

    assert list(json.loads(stream.getvalue()).items()) == [
        ("timestamp", "2024-01-15T10:32:17.250Z"),
        ("level", "info"),
        ("event", "job.succeeded"),
        ("event_id", "evt_1"),
        ("occurred_at", "2024-01-15T10:32:15Z"),
        ("job", {"name": "Tränen"}),
        ("sequence", 2),
    ]
    assert stream.getvalue().count("\n") == 1


async def test_log_sink_line_on_a_console():
    """On a console a line has its own time, name and id, duration, cost and reason."""
    stream = io.StringIO()
    sink = LogSink(NonBlockingStdout(stream), ConsoleRenderer(), CLOCK)

    await sink.send(a_delivery(body=FAILED))

    assert stream.getvalue() == (
        "2024-01-15T10:32:17Z [error    ] job.failed          Reviews (job-2)  ran 4.8s "
        "    9700 tokens out  $0.0274  - zu viele Tränen\n"
    )


async def test_log_sink_line_of_a_daemon_event_on_a_console():
    """An event of the daemon has its sink and its reason."""
    stream = io.StringIO()
    body = json.dumps(
        {"type": "poller.sink_disabled", "data": {"sink": "hook", "reason": "410 Gone"}}
    )

    await LogSink(NonBlockingStdout(stream), ConsoleRenderer(), CLOCK).send(a_delivery(body=body))

    expected = "2024-01-15T10:32:17Z [error    ] poller.sink_disabled hook 410 Gone\n"
    assert stream.getvalue() == expected


@pytest.mark.parametrize(
    ("event_type", "level"),
    [
        ("job.failed", "error"),
        ("job.missing", "warning"),
        ("job.unrecognised", "warning"),
        ("poller.auth_failed", "error"),
        ("poller.sink_disabled", "error"),
        ("job.cancelled", "info"),
        ("poller.auth_recovered", "info"),
    ],
)
async def test_log_sink_line_has_the_level_of_its_event(event_type: str, level: str):
    """Alerts by level find what failed: the line of an event has a level that says so."""
    stream = io.StringIO()
    body = json.dumps({"type": event_type, "data": {}})

    await LogSink(NonBlockingStdout(stream), clock=CLOCK).send(a_delivery(body=body))

    assert json.loads(stream.getvalue())["level"] == level


@pytest.mark.parametrize("character", ["ж", "要", "😀", '"', "\\"])
async def test_log_sink_line_is_below_16_kib(character: str):
    """The longest event fits into a line that container engines keep whole."""
    raw = {"job_id": "j" * 256, "status": "FAILED"}
    raw |= dict.fromkeys(("name", "description", "model", "dataset_id"), character * 2_000)
    job = parse_job(raw | {"failure_reason": {"message": character * 2_000}})
    stream = io.StringIO()
    body = json.dumps({"type": "job.failed", "data": {"job": job.as_dict(), "sequence": 2}})
    await LogSink(NonBlockingStdout(stream)).send(a_delivery(body=body))

    line = json.loads(stream.getvalue())
    assert len(stream.getvalue().encode()) < 16_384
    assert (line["event"], line["event_id"], line["sequence"]) == ("job.failed", "evt_1", 2)
    assert line["job"]["status"] == "FAILED"
    assert "truncated" not in line


@given(raw=JOB_OBJECTS)
def test_log_sink_line_of_any_job(raw: dict[str, Any]):
    """Whatever the API says of a job, its line is short JSON without line breaks."""
    data = {"job": parse_job(raw).as_dict()}
    delivery = a_delivery(body=json.dumps({"type": "job.failed", "data": data}))

    line = _json(delivery.event, datetime(2024, 1, 15, tzinfo=UTC))

    assert json.loads(line)["job"]["job_id"] == raw["job_id"]
    assert len(line.encode()) < 16_383
    assert line.splitlines() == [line]


@pytest.mark.usefixtures("_json_log")
async def test_log_sink_ignores_the_log_level(capsys):
    """An event is written at every log level."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    async with open_sink(Reloadable(LogSettings()), SinkContext()) as sink:
        await sink.send(a_delivery())

    assert json.loads(capsys.readouterr().out)["event_id"] == "evt_1"


@pytest.mark.usefixtures("_json_log")
async def test_log_sink_lines_stay_whole(capsys):
    """Events that are sent at once are a line each, also among other log lines."""
    async with (
        open_sink(Reloadable(LogSettings()), SinkContext()) as sink,
        anyio.create_task_group() as group,
    ):
        for number in range(100):
            group.start_soon(sink.send, a_delivery(number))
            structlog.WriteLogger().msg('{"event": "noise"}')

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 200
    assert {line.get("event_id") for line in lines} == {
        f"evt_{number}" for number in range(100)
    } | {None}


class Stream(io.StringIO):
    """A stream that keeps which threads write to it, and may fail."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.writers: list[threading.Thread] = []

    def write(self, text: str) -> int:
        """Write, or raise the given error."""
        self.writers.append(threading.current_thread())
        if self.error:
            raise self.error
        return super().write(text)


async def test_log_sink_writes_in_a_thread():
    """A slow reader of stdout does not block the daemon."""
    stream = Stream()
    await LogSink(NonBlockingStdout(stream)).send(a_delivery())

    assert threading.main_thread() not in stream.writers


async def test_log_sink_leaves_no_thread_behind():
    """While nobody reads stdout, attempts that are given up cost no thread; then all is written."""
    stream, is_read = Stream(), threading.Event()
    stream.write = lambda text: is_read.wait() and Stream.write(stream, text)
    output = NonBlockingStdout(stream)
    sink, before = LogSink(output), {*threading.enumerate()}

    for number in range(3):
        with anyio.move_on_after(0.01):
            await sink.send(a_delivery(number))
    threads = {*threading.enumerate()}
    is_read.set()
    output.close(60.0)

    assert threads <= before
    assert stream.getvalue().count("\n") == 3


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
async def test_log_sink_reports_a_stdout_that_is_gone(number: int):
    """A line that cannot be written is a failed attempt that is retried."""
    error = OSError(number, "Broken pipe")
    sink = LogSink(NonBlockingStdout(Stream(error)))

    with pytest.raises(DeliveryError, match="to stdout: Broken pipe") as caught:
        await sink.send(a_delivery())

    assert (caught.value.is_permanent, caught.value.is_sink_fault) == (False, True)


async def test_log_sink_escapes_for_an_ascii_stdout():
    """Text that the encoding of stdout cannot carry is escaped as JSON does."""
    raw = io.BytesIO()
    streams.prepare()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors=streams.ESCAPE)
    await LogSink(NonBlockingStdout(stream)).send(a_delivery())

    assert json.loads(raw.getvalue())["job"] == {"name": "Tränen"}


def test_log_sink_gets_daemon_events():
    """The log sink gets the events of the daemon too."""
    assert KIND.wants_daemon_events
