"""The `googlechat` sink: cards to an incoming webhook of a Google Chat space.

https://developers.google.com/workspace/chat/api/reference/rest/v1/cards
"""

from html import escape
from typing import Any, Final

from poller.sinks.chat import chat_kind
from poller.sinks.text import Message, cut

MAX_HEADLINE: Final = 1_000
MAX_TEXT: Final = 1_000
MAX_FACT: Final = 300
"""A message has at most 32,000 bytes; escaped, a character has up to five."""
WORD_JOINER: Final = "\u2060"


def layout(message: Message) -> dict[str, Any]:
    """Return a message as a card, with its headline for notifications."""
    headline = cut(message.headline, MAX_HEADLINE)
    widgets = [
        _paragraph(f"<b>{escape(headline, quote=False)}</b>"),
        *(_paragraph(_text(text, MAX_TEXT)) for text in message.texts),
        *(
            {"decoratedText": {"topLabel": label, "text": _text(value, MAX_FACT), "wrapText": True}}
            for label, value in message.facts
        ),
    ]
    if message.link:
        button = {"text": "Open the job", "onClick": {"openLink": {"url": message.link}}}
        widgets.append({"buttonList": {"buttons": [button]}})
    return {
        # A mention or a link would begin with this character.
        "fallbackText": headline.replace("<", f"<{WORD_JOINER}"),
        "cardsV2": [{"cardId": "event", "card": {"sections": [{"widgets": widgets}]}}],
    }


def _paragraph(html: str) -> dict[str, Any]:
    return {"textParagraph": {"text": html}}


def _text(text: str, limit: int) -> str:
    """Return a text in HTML that is shown as it is."""
    return escape(cut(text, limit), quote=False)


KIND: Final = chat_kind(layout)
