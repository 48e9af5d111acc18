"""The teams sink: the card that a workflow gets."""

import json
import re
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from poller.sinks.http_post import dump
from poller.sinks.teams import MAX_TEXT, layout
from poller.sinks.text import Message, Tone
from tests.sinks.message_samples import ALL_MESSAGES, LARGEST_MESSAGES, message
from tests.support.builders import GOLDEN

MAX_BYTES: Final = 28_000
"""A workflow accepts a message over 28 KB, and then cannot post it."""


def an_object(kind: str, /, **fields: Any) -> dict[str, Any]:
    """Return the schema of an object with these fields alone; a name ending in _ is optional."""
    optional = {name.rstrip("_") for name in fields if name.endswith("_")}
    properties = {name.rstrip("_"): schema for name, schema in fields.items()}
    return {
        "type": "object",
        "properties": {"type": {"const": kind}} | properties,
        "required": ["type", *sorted({*properties} - optional)],
        "additionalProperties": False,
    }


def a_list(items: Any) -> dict[str, Any]:
    """Return the schema of a list that is not empty."""
    return {"type": "array", "items": items, "minItems": 1}


TEXT: Final = {"type": "string", "minLength": 1}
RUN: Final = an_object("TextRun", text=TEXT, weight_={"enum": ["Default", "Lighter", "Bolder"]})
RICH_TEXT: Final = an_object(
    "RichTextBlock", inlines=a_list(RUN), spacing_={"enum": ["Small", "Medium"]}
)
CONTAINER: Final = an_object(
    "Container",
    style={"enum": ["good", "attention", "warning", "emphasis"]},
    bleed={"type": "boolean"},
    items=a_list(RICH_TEXT),
)
OPENING: Final = "Action.OpenUrl"
OPEN_URL: Final = an_object(OPENING, title=TEXT, url={"pattern": "^https://"})
CARD: Final = an_object(
    "AdaptiveCard",
    version={"const": "1.2"},
    body=a_list({"oneOf": [CONTAINER, RICH_TEXT]}),
    actions_=a_list(OPEN_URL),
    **{"$schema": {"const": "http://adaptivecards.io/schemas/adaptive-card.json"}},
)
"""What a message uses of https://adaptivecards.io/schemas/adaptive-card.json, and nothing else."""


def card(**fields: Any) -> dict[str, Any]:
    """Return the card about a failed job with some fields."""
    return layout(message(**fields))["attachments"][0]["content"]


def texts(content: Any) -> list[str]:
    """Return every text that a card shows."""
    if isinstance(content, list):
        return [text for item in content for text in texts(item)]
    if not isinstance(content, dict):
        return []
    return [content["text"]] if "text" in content else texts(list(content.values()))


def types(content: Any) -> list[str]:
    """Return the type of every element of a card."""
    return re.findall(r'"type": "([^"]*)"', json.dumps(content))


def test_message_has_fixed_bytes():
    """The message is written down: a retry may be sent by a later version."""
    text = json.dumps(layout(message()), ensure_ascii=False, indent=2)

    assert text + "\n" == (GOLDEN / "job-12345.teams.json").read_text("utf-8")


@pytest.mark.parametrize("found", [*ALL_MESSAGES, *LARGEST_MESSAGES])
def test_card_has_elements_of_version_1_2_alone(found: Message):
    """A client that knows version 1.2 shows every card whole."""
    content = layout(found)

    assert content["type"] == "message"
    (attachment,) = content["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    Draft202012Validator(CARD).validate(attachment["content"])


def test_name_is_never_markdown():
    """A name is in elements that know neither Markdown nor functions, in the characters it has."""
    name = "**R&D** [x](http://a.example) {{DATE(2024-01-15T10:30:00Z)}} <at>all</at>"
    found = card(name=name, model=name, failure_reason={"message": name})
    headline, reason, *_, model = texts(found)

    assert headline.startswith(f"❌ {name} (job-12345) failed")
    assert (reason, model) == (name, name)
    assert set(types(found)) == {"AdaptiveCard", "Container", "RichTextBlock", "TextRun", OPENING}


@pytest.mark.parametrize("found", LARGEST_MESSAGES)
def test_largest_message_can_be_posted(found: Message):
    """A message is within the limit of Teams, in UTF-8 and in UTF-16."""
    body = dump(layout(found))

    assert len(body) <= MAX_BYTES
    assert len(body.decode().encode("utf-16-le")) <= MAX_BYTES


def test_long_reason_ends_with_an_ellipsis():
    """A long text is cut."""
    found = layout(Message(Tone.BAD, "job-1 failed", reason="x" * 10_000))

    assert texts(found["attachments"])[1] == f"{'x' * (MAX_TEXT - 1)}…"


def test_message_without_details_has_its_headline_alone():
    """What is said in one line has one line, and no button without a link."""
    found = layout(message("job.started", None))["attachments"][0]["content"]

    assert len(texts(found)) == 1
    assert "actions" not in found
