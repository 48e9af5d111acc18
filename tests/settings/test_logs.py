"""Log lines: their format, and the secrets that they never contain."""

import base64
import json
import logging
import re
from io import StringIO
from urllib.parse import quote

import pytest
import structlog

from poller.runtime import logging as logs

SECRET = "s3cr3t/with?odd&chars \"'\\é"


class Terminal(StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.fixture(autouse=True)
def _reset_structlog():
    yield
    structlog.reset_defaults()


def configured(style="json", level="info", stream=None):
    """Configure the log with one secret; return its stream."""
    stream = stream or StringIO()
    logs.configure(level, style, stream=stream, secrets=lambda: (SECRET, "abc"))
    return stream


def only_line(stream):
    """Return the only line of a stream."""
    (line,) = stream.getvalue().splitlines()
    return json.loads(line)


def test_log_line_is_one_json_object():
    """Time, level and event come first, then the keys in their order."""
    stream = configured()

    structlog.get_logger().info("job.changed", job_id="job-1", after="RUNNING", n=1, x=None)

    line = only_line(stream)
    assert list(line) == ["timestamp", "level", "event", "job_id", "after", "n", "x"]
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["event"], line["n"], line["x"]) == ("info", "job.changed", 1, None)


def test_log_line_is_utf8():
    """Characters are written as they are."""
    stream = configured()

    structlog.get_logger().info("job.changed", name="要約 😀")

    assert '"要約 😀"' in stream.getvalue()


@pytest.mark.parametrize(
    "keys",
    [
        {"error": "😀" * 50_000},
        {"error": '"' * 9_000},
        {"exception": "Traceback\n" + "x" * 100_000 + "\nValueError: the end"},
        {"problems": ["要" * 600] * 20},
        {"job": {"name": "a" * 20_000, "failure_reason": {"message": "b" * 20_000}}},
        {"numbers": list(range(10_000))},
        {f"key_{number}": "x" * 200 for number in range(300)},
    ],
)
def test_log_line_is_below_16_kib(keys):
    """Container engines cut longer lines: texts are cut before, and the line says so."""
    stream = configured()

    structlog.get_logger().error("poll.failed", **keys)

    line = only_line(stream)
    assert len(stream.getvalue().encode()) < 16_384
    assert line["truncated"] is True
    assert (line["level"], line["event"]) == ("error", "poll.failed")
    assert line.get("exception", "the end").endswith("the end")


def test_log_line_below_16_kib_is_whole():
    """A line that fits is not cut."""
    stream = configured()

    structlog.get_logger().info("poll.failed", error="x" * 16_000)

    assert only_line(stream)["error"] == "x" * 16_000
    assert "truncated" not in only_line(stream)


def test_log_level_filters_lines():
    """Lines below the level are not written, neither ours nor those of libraries."""
    stream = configured(level="warning")

    structlog.get_logger().info("job.changed")
    logging.getLogger("aiohttp").info("quiet")

    assert stream.getvalue() == ""


@pytest.mark.parametrize(("number", "level"), [(30, "warning"), (25, "info"), (70, "critical")])
def test_log_lines_of_libraries(number, level):
    """A record of a library becomes a line with the name of the library."""
    stream = configured()

    logging.getLogger("aiohttp.client").log(number, "lost %s", "it")

    line = only_line(stream)
    assert (line["level"], line["event"], line["logger"]) == (level, "lost it", "aiohttp.client")


def crash():
    """Raise an error with the secret, beside a local variable that must not be logged."""
    hidden = "in" + "visible"
    raise ValueError(SECRET + hidden[:0])


@pytest.mark.parametrize("style", ["json", "console"])
def test_traceback_contains_no_local_variables(style):
    """An exception is logged with its traceback, without the variables of its frames."""
    stream = configured(style)
    try:
        crash()
    except ValueError:
        structlog.get_logger().exception("poll.crashed")

    assert "ValueError: ****" in stream.getvalue()
    assert "invisible" not in stream.getvalue()


def test_traceback_of_a_library_is_in_its_line():
    """An exception that a library logs is one line, with secrets masked."""
    stream = configured()
    try:
        crash()
    except ValueError:
        logging.getLogger("asyncio").exception("Task failed")

    assert only_line(stream)["exception"].endswith("ValueError: ****")


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        repr(SECRET)[1:-1],
        json.dumps(SECRET)[1:-1],
    ],
)
@pytest.mark.parametrize("style", ["json", "console"])
def test_secret_is_masked_in_every_form(form, style):
    """Raw, quoted, in base64 or escaped; in the event name, in keys, in values of any depth."""
    stream = configured(style)

    structlog.get_logger().info(
        f"a {form}",
        text=f"x{form}x",
        deep={"list": [{form: (form,)}], "set": {form}},
    )

    assert stream.getvalue().count("****") == 5
    assert "s3cr3t" not in stream.getvalue()
    assert form.rstrip("=") not in stream.getvalue()


def test_secret_in_an_object_is_masked():
    """An object is logged as its `repr`, with the secret masked."""
    stream = configured()

    structlog.get_logger().info("delivery.failed", error=ValueError(SECRET))

    assert only_line(stream)["error"] == "ValueError('****')"


def test_very_short_secret_is_not_masked():
    """A secret of three letters leaves lines readable."""
    stream = configured()

    structlog.get_logger().info("abc.happened")

    assert only_line(stream)["event"] == "abc.happened"


def test_without_secrets_nothing_is_masked():
    """Without any secret, lines stay as they are."""
    stream = StringIO()
    logs.configure("info", "json", stream=stream, secrets=tuple)

    structlog.get_logger().info("job.changed")

    assert only_line(stream)["event"] == "job.changed"


def test_new_secret_is_masked_from_then_on():
    """A secret that a reload adds is masked in all later lines."""
    secrets: list[str] = []
    stream = StringIO()
    logs.configure("info", "json", stream=stream, secrets=lambda: secrets)
    secrets.append("n3w-0ne")

    structlog.get_logger().info("key n3w-0ne")

    assert only_line(stream)["event"] == "key ****"


def test_log_format_auto_depends_on_the_terminal():
    """`auto` is console on a terminal and json elsewhere."""
    piped, terminal = configured("auto"), Terminal()
    structlog.get_logger().info("job.changed")
    configured("auto", stream=terminal)
    structlog.get_logger().info("job.changed")

    assert only_line(piped)["event"] == "job.changed"
    assert not terminal.getvalue().startswith("{")
    assert "job.changed" in terminal.getvalue()


def test_console_line_is_short_and_colored(monkeypatch: pytest.MonkeyPatch):
    """On a terminal a line begins with its time in seconds; levels and ends have colors."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    configured("auto", stream=terminal)

    structlog.get_logger().warning("job.changed", job_id="job-1", name="my job", after="FAILED")

    time, _, rest = terminal.getvalue().partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)
    assert rest == (
        "[\x1b[33mwarning  \x1b[0m] job.changed         "
        "job_id=job-1 name='my job' after=\x1b[31mFAILED\x1b[0m\n"
    )


@pytest.mark.parametrize(("name", "text"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_console_line_without_colors(monkeypatch: pytest.MonkeyPatch, name: str, text: str):
    """NO_COLOR and a terminal without colors are respected."""
    monkeypatch.setenv(name, text)
    terminal = Terminal()
    configured("auto", stream=terminal)

    structlog.get_logger().warning("job.changed", after="FAILED", counts={"a": 1}, empty="")

    assert terminal.getvalue().endswith("after=FAILED counts={\"a\": 1} empty=''\n")
