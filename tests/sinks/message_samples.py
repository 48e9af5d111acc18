"""Messages for the tests of layouts: one of every type of event, and those of the largest texts."""

from collections.abc import Iterator
from typing import Any, Final

from poller.core.events import DIGEST_LINES, RECORDED_TYPES, EventOrigin
from poller.sinks.samples import test_event as a_test_event
from poller.sinks.testing import DETECTED_AT, sample_delivery
from poller.sinks.text import MAX_LINE, Message, Tone, describe

JOB_URL: Final = "https://app.example/jobs/{job_id}"
COSTLY_CHARACTERS: Final = ("x", "&", "*", "<", '"', "\\", "\N{FAMILY}")
"""Characters that take the most room in one encoding or escape or another."""


def message(event_type: str = "job.failed", url: str | None = JOB_URL, **fields: Any) -> Message:
    """Return the message about a job with some fields."""
    return describe(sample_delivery(event_type, **fields).event, url)


def _all_messages() -> Iterator[Message]:
    """Yield a message of every type of event, with a link and without."""
    for event_type in sorted(RECORDED_TYPES):
        origin = EventOrigin(deployment="a")
        event = a_test_event(event_type, origin, DETECTED_AT, sink="x", instance="i")
        yield describe(event)
        yield describe(event, JOB_URL)


def _largest_messages() -> Iterator[Message]:
    """Yield messages in which every text is far too long."""
    for character in COSTLY_CHARACTERS:
        text = character * 40_000
        facts = (("Cost", "$1,234.50 so far"), ("Tokens", "1 in, 2 out"), ("Model", text))
        yield Message(Tone.BAD, text, facts, text, text, "https://app.example/" + "x" * 1_000)
        lines = (text[:MAX_LINE],) * DIGEST_LINES
        yield Message(Tone.BAD, text, facts, lines=lines, omitted=1_000_000)


ALL_MESSAGES: Final = tuple(_all_messages())
LARGEST_MESSAGES: Final = tuple(_largest_messages())
