"""The `slack` sink: messages to an incoming webhook of Slack, or of Mattermost.

The fields of the attachment are those that both show. Formatting is off in all of them, so that an
underscore in a name is one. https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

import re
from typing import Any, Final

from poller.sinks.chat import chat_kind
from poller.sinks.text import COLORS, Message, cut

MAX_TEXT: Final = 3_000
MAX_FIELD: Final = 1_000
GROUP_MENTION: Final = re.compile(r"@(?=(here|channel|all|everyone)\b)", re.IGNORECASE)
"""What Mattermost takes for a mention of everybody; Slack does so only in `<!here>`."""
WORD_JOINER: Final = "\u2060"


def layout(message: Message) -> dict[str, Any]:
    """Return a message as an incoming webhook expects it."""
    body = message.body(MAX_TEXT)
    attachment: dict[str, Any] = {
        "color": COLORS[message.tone],
        "fallback": _text(message.headline, MAX_TEXT),
        "mrkdwn_in": [],
        "fields": [
            {"title": label, "value": _text(value, MAX_FIELD), "short": True}
            for label, value in message.facts
        ],
    }
    if body:
        attachment["text"] = _text(body, MAX_TEXT)
    if message.link:
        attachment |= {"title": "Open the job", "title_link": message.link}
    content = {"text": _text(message.headline, MAX_TEXT), "mrkdwn": False, "unfurl_links": False}
    has_details = body or message.facts or message.link
    return content | ({"attachments": [attachment]} if has_details else {})


def _text(text: str, limit: int) -> str:
    """Return a text that is shown as it is: Slack decodes these three, and nothing else."""
    plain = GROUP_MENTION.sub(f"@{WORD_JOINER}", cut(text, limit))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


KIND: Final = chat_kind(layout)
