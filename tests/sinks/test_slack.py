"""The slack sink: the bytes that an incoming webhook gets."""

import json
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from poller.sinks.slack import MAX_TEXT, layout
from poller.sinks.testing import sample_delivery
from poller.sinks.text import Message, describe
from tests.sinks.message_samples import ALL_MESSAGES, LARGEST_MESSAGES
from tests.support.builders import GOLDEN

JOB_URL = "https://app.example/jobs/{job_id}"

MAX_POST: Final = 16_383
"""Characters of a post in Mattermost, which rejects longer ones; Slack cuts them at 40,000."""


def an_object(*optional: str, **properties: Any) -> dict[str, Any]:
    """Return the schema of an object with these fields alone."""
    required = sorted({*properties} - {*optional})
    fields = {"properties": properties, "required": required, "additionalProperties": False}
    return {"type": "object"} | fields


TEXT: Final = {"type": "string", "minLength": 1, "maxLength": MAX_POST}
FIELD: Final = an_object(title=TEXT, value=TEXT, short={"const": True})
ATTACHMENT: Final = an_object(
    "text",
    "title",
    "title_link",
    color={"pattern": "^#[0-9a-f]{6}$"},
    fallback=TEXT,
    mrkdwn_in={"const": []},
    fields={"type": "array", "items": FIELD},
    text=TEXT,
    title=TEXT,
    title_link={"pattern": "^https://"},
)
MESSAGE: Final = an_object(
    "attachments",
    text=TEXT,
    mrkdwn={"const": False},
    unfurl_links={"const": False},
    attachments={"type": "array", "items": ATTACHMENT, "minItems": 1, "maxItems": 1},
)
"""What a message uses of https://api.slack.com/reference/messaging/attachments."""


def content(kind: str = "job.failed", url: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return what is sent for the event of a job with some fields."""
    return layout(describe(sample_delivery(kind, **fields).event, url))


def test_message_has_fixed_bytes():
    """The message is written down: a retry may be sent by a later version."""
    text = json.dumps(content(url=JOB_URL), ensure_ascii=False, indent=2)

    assert text + "\n" == (GOLDEN / "job-12345.slack.json").read_text("utf-8")


@pytest.mark.parametrize("found", [*ALL_MESSAGES, *LARGEST_MESSAGES])
def test_message_has_documented_fields_within_the_limits(found: Message):
    """Every message is one that Slack and Mattermost show, whatever its texts are."""
    Draft202012Validator(MESSAGE).validate(layout(found))


def test_name_cannot_be_a_mention_a_link_or_a_line():
    """A name cannot mention a channel, link to a page, or begin a second line."""
    found = content(name="<!channel> R&D\n<https://a.example|x> @here")["text"]

    assert found.startswith(
        "❌ &lt;!channel&gt; R&amp;D &lt;https://a.example|x&gt; @\u2060here (job-12345) failed"
    )


def test_long_texts_are_cut_before_they_are_escaped():
    """A cut never splits an escape."""
    found = content(failure_reason={"message": "&" * 10_000})["attachments"][0]["text"]

    assert len(found.replace("&amp;", "&")) <= MAX_TEXT
    assert found.replace("&amp;", "").strip("…") == ""


def test_message_without_details_has_no_attachment():
    """What is said in one line has one line."""
    assert "attachments" not in content("job.started")
