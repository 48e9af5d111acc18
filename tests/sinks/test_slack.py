"""The slack sink: the bytes that an incoming webhook gets."""

import json
from typing import Any

from poller.sinks.slack import MAX_TEXT, layout
from poller.sinks.testing import sample_delivery
from poller.sinks.text import describe
from tests.support.builders import GOLDEN

JOB_URL = "https://app.example/jobs/{job_id}"


def content(kind: str = "job.failed", url: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return what is sent for the event of a job with some fields."""
    return layout(describe(sample_delivery(kind, **fields).event, url))


def test_message_has_fixed_bytes():
    """The message is written down: a retry may be sent by a later version."""
    text = json.dumps(content(url=JOB_URL), ensure_ascii=False, indent=2)

    assert text + "\n" == (GOLDEN / "job-12345.slack.json").read_text("utf-8")


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
