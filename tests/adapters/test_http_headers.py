"""Times in HTTP headers, and URLs without their secret parts."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.runtime.http_headers import http_date, retry_after
from poller.runtime.http_values import redact_url
from poller.runtime.redaction import redact
from tests.support.http_requests import DATE


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10.0),
        (" 10 ", 10.0),
        ("0", 0.0),
        ("9" * 5_000, 3_600.0),
        ("Mon, 15 Jan 2024 10:30:07 GMT", 7.0),
        ("Monday, 15-Jan-24 10:30:07 GMT", 7.0),
        ("Mon Jan 15 10:30:07 2024", 7.0),
        ("30.5", 30.5),
        ("Mon Jan  5 10:30:07 2024", None),
        ("Tue, 16 Jan 2024 10:30:00 GMT", 3_600.0),
        ("Mon, 15 Jan 2024 10:29:59 GMT", None),
        ("", None),
        ("-1", None),
        ("1.5.1", None),
        ("1e9", None),
        ("-1.5", None),
        ("inf", None),
        ("\uff11\uff12", None),
        ("soon", None),
        ("Mon, 32 Jan 2024 10:30:07 GMT", None),
        ("Mon, 15 Jan 9999999999 10:30:07 GMT", None),
    ],
)
def test_retry_after(text: str, seconds: float | None):
    """Retry-After is seconds, or a date relative to Date; junk and the past are None."""
    headers = {"Retry-After": text, "Date": DATE}

    assert retry_after(headers, cap=3_600.0, now=0.0) == seconds


@pytest.mark.parametrize("headers", [{}, {"Date": "junk"}])
@pytest.mark.parametrize(("ahead", "seconds"), [(0.0, 0.0), (7.5, 7.5), (90.0, 60.0), (-0.5, None)])
def test_retry_after_without_a_date(headers: dict[str, str], ahead: float, seconds: float | None):
    """Without a valid Date, a date is relative to our own clock."""
    now = datetime(2024, 1, 15, 10, 30, tzinfo=UTC).timestamp() - ahead

    assert retry_after({"Retry-After": DATE, **headers}, cap=60.0, now=now) == seconds


def test_no_retry_after():
    """Without the header there is no pause."""
    assert retry_after({"Date": DATE}, cap=60.0, now=0.0) is None


dates = st.datetimes(timezones=st.timezones()).map(
    lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S %z")
)


@given(text=st.text() | dates | st.integers().map(str), date=st.text() | dates)
def test_retry_after_never_raises(text: str, date: str):
    """For any headers, Retry-After is None, or seconds from 0 to the cap."""
    pause = retry_after({"Retry-After": text, "Date": date}, cap=60.0, now=0.0)

    assert pause is None or 0.0 <= pause <= 60.0


def test_http_date():
    """A date of HTTP is parsed as an aware datetime."""
    assert http_date(DATE) == datetime(2024, 1, 15, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "url", ["https://a.example/x", "https://me:secret@a.example/x?y#z", "https://a.example"]
)
def test_redacted_url(url: str):
    """A redacted URL has no part that can be a secret."""
    assert redact_url(url) == "https://a.example/..."


def test_redaction_of_a_decoded_path():
    """A path is redacted as it was configured, and as other libraries write it."""
    secrets = ("/u/me%40example.com/hook?next=%2Frun",)

    assert redact(f"POST {secrets[0]} failed", secrets) == "POST **** failed"
    assert redact("POST /u/me@example.com/hook?next=/run failed", secrets) == "POST **** failed"
