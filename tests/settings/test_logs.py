"""What a line of the log looks like, and what never stands in it."""

import base64
import json
import logging
from io import StringIO
from urllib.parse import quote

import pytest
import structlog

from poller.runtime import logging as logs

SECRET = "s3cr3t/with?odd&chars \"'\\é"


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def _as_before():
    yield
    structlog.reset_defaults()


def configured(style="json", level="info", stream=None):
    """Configure the log with one secret, on a stream that is returned."""
    stream = stream or StringIO()
    logs.configure(level, style, stream=stream, secrets=lambda: (SECRET, "abc"))
    return stream


def only_line(stream):
    """Read the one line of a stream."""
    (line,) = stream.getvalue().splitlines()
    return json.loads(line)


def test_a_line_is_one_object():
    """Time, level and event come first, then the keys as they were given."""
    stream = configured()

    structlog.get_logger().info("job.changed", job_id="job-1", after="RUNNING", n=1, x=None)

    line = only_line(stream)
    assert list(line) == ["timestamp", "level", "event", "job_id", "after", "n", "x"]
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["event"], line["n"], line["x"]) == ("info", "job.changed", 1, None)


def test_the_level_counts():
    """What is below the level is not written, by us or by a library."""
    stream = configured(level="warning")

    structlog.get_logger().info("job.changed")
    logging.getLogger("aiohttp").info("quiet")

    assert stream.getvalue() == ""


@pytest.mark.parametrize(("number", "level"), [(30, "warning"), (25, "info"), (70, "critical")])
def test_a_library_logs_the_same_lines(number, level):
    """What libraries log becomes a line that names the library."""
    stream = configured()

    logging.getLogger("aiohttp.client").log(number, "lost %s", "it")

    line = only_line(stream)
    assert (line["level"], line["event"], line["logger"]) == (level, "lost it", "aiohttp.client")


def crash():
    """Raise an error that tells the secret, beside a variable that must not show."""
    hidden = "in" + "visible"
    raise ValueError(SECRET + hidden[:0])


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_shows_no_locals(style):
    """An exception is logged with its traceback and without the variables of its frames."""
    stream = configured(style)
    try:
        crash()
    except ValueError:
        structlog.get_logger().exception("poll.crashed")

    assert "ValueError: ****" in stream.getvalue()
    assert "invisible" not in stream.getvalue()


def test_a_library_s_traceback_is_in_its_line():
    """An exception that a library logs is one line, secrets struck out."""
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
def test_a_secret_is_struck_out_in_every_form(form, style):
    """Raw, quoted, in base64 or escaped; in the event, in values of any depth, in keys."""
    stream = configured(style)

    structlog.get_logger().info(
        f"a {form}",
        text=f"x{form}x",
        deep={"list": [{form: (form,)}], "set": {form}},
    )

    assert stream.getvalue().count("****") == 5
    assert "s3cr3t" not in stream.getvalue()
    assert form.rstrip("=") not in stream.getvalue()


def test_what_json_does_not_know_is_struck_out_too():
    """An object is written as it shows itself, without the secret in it."""
    stream = configured()

    structlog.get_logger().info("delivery.failed", error=ValueError(SECRET))

    assert only_line(stream)["error"] == "ValueError('****')"


def test_a_very_short_secret_leaves_lines_readable():
    """Three letters are no secret."""
    stream = configured()

    structlog.get_logger().info("abc.happened")

    assert only_line(stream)["event"] == "abc.happened"


def test_without_secrets_nothing_is_struck_out():
    """No secret at all strikes nothing."""
    stream = StringIO()
    logs.configure("info", "json", stream=stream, secrets=tuple)

    structlog.get_logger().info("job.changed")

    assert only_line(stream)["event"] == "job.changed"


def test_secrets_are_asked_for_at_every_line():
    """A secret that came by a refresh is struck out from then on."""
    secrets: list[str] = []
    stream = StringIO()
    logs.configure("info", "json", stream=stream, secrets=lambda: secrets)
    secrets.append("n3w-0ne")

    structlog.get_logger().info("key n3w-0ne")

    assert only_line(stream)["event"] == "key ****"


def test_auto_is_json_unless_a_person_looks():
    """`auto` writes for people on a terminal only."""
    piped, terminal = configured("auto"), Terminal()
    structlog.get_logger().info("job.changed")
    configured("auto", stream=terminal)
    structlog.get_logger().info("job.changed")

    assert only_line(piped)["event"] == "job.changed"
    assert not terminal.getvalue().startswith("{")
    assert "job.changed" in terminal.getvalue()
