"""Types of settings: how texts become values."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from poller.core.retry import RETRY_DELAYS
from poller.settings.durations import UNITS, Duration
from poller.settings.types import StringList
from tests.support.config_builders import load_with

DURATION = TypeAdapter(Duration)
STRING_LIST = TypeAdapter(StringList)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 30.0),
        ("30s", 30.0),
        ("0.25", 0.25),
        ("500ms", 0.5),
        ("5m", 300.0),
        ("1h30m", 5_400.0),
        ("2d", 172_800.0),
        ("1m1ms", 60.001),
        ("1.5h", 5_400.0),
        (15.0, 15.0),
    ],
)
def test_duration_is_parsed_as_seconds(text, expected):
    """A duration is a number, or numbers with units from the largest to the smallest."""
    assert DURATION.validate_python(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "s", "1x", "30s1m", "1m 30s", "1e3", "1:30", "٣s", "1mm"])
def test_duration_that_is_invalid_is_an_error(text):
    """Any other text is an error that shows valid examples."""
    with pytest.raises(ValidationError, match="must be a duration such as"):
        DURATION.validate_python(text)


@given(st.lists(st.integers(0, 999), min_size=5, max_size=5))
def test_duration_is_always_the_sum_of_its_parts(counts):
    """Every combination of units adds up."""
    text = "".join(f"{n}{unit}" for n, unit in zip(counts, UNITS, strict=True))
    total = sum(n * each for n, each in zip(counts, UNITS.values(), strict=True))

    assert DURATION.validate_python(text) == pytest.approx(total)


@given(st.text(max_size=12))
def test_duration_is_never_negative_or_infinite(text):
    """Every duration that is accepted is finite and not negative."""
    with suppress(ValidationError):
        assert 0 <= DURATION.validate_python(text) < float("inf")


@given(st.lists(st.from_regex(r"[A-Za-z0-9._-]{1,9}", fullmatch=True), min_size=1))
def test_list_is_the_same_in_every_notation(items):
    """Commas, white space and JSON result in the same items, each once and in order."""
    expected = tuple(dict.fromkeys(items))

    assert STRING_LIST.validate_python(",".join(items)) == expected
    assert STRING_LIST.validate_python(" \n".join(items)) == expected
    assert STRING_LIST.validate_python(json.dumps(items)) == expected


@pytest.mark.parametrize("text", ["on", "true", "1", "yes", "ON"])
def test_switch_is_on(text):
    """Switches take the usual words."""
    assert load_with(POLLER_ALLOW_HTTP=text).settings.allow_http


def test_log_settings_ignore_case():
    """Level and format may be written in any case."""
    settings = load_with(POLLER_LOG_LEVEL="WARNING", POLLER_LOG_FORMAT="Json").settings

    assert (settings.log_level, settings.log_format) == ("warning", "json")


def test_blank_value_counts_as_not_set():
    """A variable with only white space leaves the default."""
    assert load_with(POLLER_CONCURRENCY=" ").settings.concurrency == 16


def test_api_url_keeps_its_path():
    """The path of the base URL is kept, without a slash at its end."""
    assert load_with(SUTRO_API_URL="https://us.example.com/v1/").settings.api_url.endswith("com/v1")


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000"])
def test_plain_http_is_allowed_on_loopback(host):
    """The key does not leave the machine on loopback."""
    assert load_with(SUTRO_API_URL=f"http://{host}").settings.api_url == f"http://{host}"


def test_plain_http_can_be_allowed():
    """POLLER_ALLOW_HTTP allows it for any host."""
    settings = load_with(SUTRO_API_URL="http://proxy.internal", POLLER_ALLOW_HTTP="on").settings

    assert settings.api_url == "http://proxy.internal"


def test_retry_schedule_is_a_list_of_durations():
    """It may repeat a duration; its default is the schedule that the worker has without it."""
    assert load_with(POLLER_RETRY_SCHEDULE="1s, 1s 1m").settings.retry_schedule == (1.0, 1.0, 60.0)
    assert load_with().settings.retry_schedule == RETRY_DELAYS


def test_equal_intervals_are_valid():
    """The longest interval may equal the shortest."""
    settings = load_with(POLLER_MIN_INTERVAL="0.1", POLLER_MAX_INTERVAL="100ms").settings

    assert settings.min_interval == settings.max_interval
