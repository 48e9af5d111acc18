"""The `teams` sink: Adaptive Cards to a workflow of Microsoft Teams.

The texts are runs of rich text, which know no Markdown. All elements are of version 1.2, the first
with rich text. https://adaptivecards.io/explorer/
"""

from collections.abc import Mapping
from typing import Any, Final

from poller.sinks.chat import chat_kind
from poller.sinks.text import Message, Tone, cut

STYLES: Final[Mapping[Tone, str]] = {
    Tone.GOOD: "good",
    Tone.BAD: "attention",
    Tone.WARNING: "warning",
    Tone.NEUTRAL: "emphasis",
}
MAX_HEADLINE: Final = 1_000
MAX_TEXT: Final = 2_000
MAX_FACT: Final = 300
"""A workflow accepts a message over 28 KB, and then cannot post it: the texts end well before."""


def layout(message: Message) -> dict[str, Any]:
    """Return a message as the trigger of a workflow expects it: with one card."""
    headline = _line(cut(message.headline, MAX_HEADLINE), weight="Bolder")
    facts = [
        {
            "type": "RichTextBlock",
            "spacing": "Small",
            "inlines": [_run(f"{label}: ", weight="Bolder"), _run(cut(value, MAX_FACT))],
        }
        for label, value in message.facts
    ]
    texts = [_line(cut(text, MAX_TEXT)) for text in message.texts]
    style = STYLES[message.tone]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": [
            {"type": "Container", "style": style, "bleed": True, "items": [headline]},
            *texts,
            *facts,
        ],
    }
    if message.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open the job", "url": message.link}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


def _line(text: str, **style: str) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [_run(text, **style)]}


def _run(text: str, **style: str) -> dict[str, str]:
    return {"type": "TextRun", "text": text, **style}


KIND: Final = chat_kind(layout)
