"""The googlechat sink: the card that a space gets."""

import json
from html import unescape
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from poller.core.errors import DeliveryError
from poller.sinks.googlechat import MAX_TEXT, layout
from poller.sinks.http_post import dump
from poller.sinks.testing import sample_delivery
from poller.sinks.text import Message
from tests.sinks.http_kinds import opened
from tests.sinks.message_samples import ALL_MESSAGES, LARGEST_MESSAGES, message
from tests.support.builders import GOLDEN
from tests.support.http_peers import peer, responds

MAX_BYTES: Final = 32_000
TEXT: Final = {"type": "string", "minLength": 1}


def an_object(**fields: Any) -> dict[str, Any]:
    """Return the schema of an object with all of these fields, and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def a_list(items: Any) -> dict[str, Any]:
    """Return the schema of a list that is not empty."""
    return {"type": "array", "items": items, "minItems": 1, "maxItems": 100}


LINK: Final = an_object(openLink=an_object(url={"pattern": "^https://"}))
WIDGETS: Final = (
    an_object(textParagraph=an_object(text=TEXT)),
    an_object(decoratedText=an_object(topLabel=TEXT, text=TEXT, wrapText={"type": "boolean"})),
    an_object(buttonList=an_object(buttons=a_list(an_object(text=TEXT, onClick=LINK)))),
)
SECTION: Final = an_object(widgets=a_list({"oneOf": WIDGETS}))
CARD: Final = an_object(cardId=TEXT, card=an_object(sections=a_list(SECTION)))
CONTENT: Final = an_object(fallbackText=TEXT, cardsV2=a_list(CARD))
"""What a message uses of the resource Message of the Google Chat API, and nothing else."""


def widgets(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the widgets of a message."""
    return content["cardsV2"][0]["card"]["sections"][0]["widgets"]


def test_message_has_fixed_bytes():
    """The message is written down: a retry may be sent by a later version."""
    text = json.dumps(layout(message()), ensure_ascii=False, indent=2)

    assert text + "\n" == (GOLDEN / "job-12345.googlechat.json").read_text("utf-8")


@pytest.mark.parametrize("found", [*ALL_MESSAGES, *LARGEST_MESSAGES])
def test_message_is_a_card_with_fallback_text(found: Message):
    """Every message is one card, within the limit of bytes."""
    content = layout(found)

    Draft202012Validator(CONTENT).validate(content)
    assert len(dump(content)) <= MAX_BYTES


def test_name_is_shown_as_it_is():
    """A name is no element of HTML, and no character reference."""
    name = "<b>R&D</b> <a href='http://a.example'>x</a> &lt; <users/all>"
    content = layout(message(name=name, model=name, failure_reason={"message": name}))
    headline, reason, *_ = (found["textParagraph"]["text"] for found in widgets(content)[:2])

    assert headline.startswith("<b>❌ &lt;b&gt;R&amp;D&lt;/b&gt; ")
    assert "<" not in headline.removeprefix("<b>").removesuffix("</b>")
    assert "<" not in reason
    assert unescape(reason) == name
    assert unescape(widgets(content)[-2]["decoratedText"]["text"]) == name


def test_fallback_text_mentions_nobody():
    """A notification has the headline in plain text, in which no mention and no link can begin."""
    found = layout(message(name="R&D <users/all> <http://a.example|x>"))["fallbackText"]

    assert found.startswith(
        "❌ R&D <\u2060users/all> <\u2060http://a.example|x> (job-12345) failed"
    )


def test_long_texts_are_cut_before_they_are_escaped():
    """A cut never splits an escape."""
    content = layout(message(failure_reason={"message": "&" * 10_000}))
    reason = widgets(content)[1]["textParagraph"]["text"]

    assert unescape(reason) == "&" * (MAX_TEXT - 1) + "…"


def test_message_without_details_has_its_headline_alone():
    """What is said in one line has one line, and no button without a link."""
    assert len(widgets(layout(message("job.started", None)))) == 1


@pytest.mark.anyio
async def test_error_is_reported_in_googles_words():
    """The reason has the message of Google's error object."""
    error = {"code": 429, "message": "Resource has been exhausted.", "status": "X"}
    response = responds(429, json.dumps({"error": error}).encode())
    async with peer(response) as receiver, opened("googlechat", receiver) as sink:
        with pytest.raises(DeliveryError) as found:
            await sink.send(sample_delivery())

    assert str(found.value) == "the receiver returned 429: Resource has been exhausted."
    assert found.value.retry_after is None
