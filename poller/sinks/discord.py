"""The `discord` sink: messages with an embed to a webhook of Discord.

https://docs.discord.com/developers/resources/webhook#execute-webhook
"""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, SecretStr

from poller.runtime.http_values import Response
from poller.settings.base import setting
from poller.settings.types import SecretUrl
from poller.sinks.chat import ChatSettings, chat_kind
from poller.sinks.http_post import json_fields
from poller.sinks.text import COLORS, Message, cut

MAX_TEXT: Final = 1_000
"""Half of what Discord shows: each character may need a backslash."""
MAX_FIELD: Final = 250
MARKUP: Final = re.compile(r"[\\*_~`|\[\]<@]|^[-+#>]|(?<=\d)\.(?= )|:(?=//)", re.MULTILINE)
"""Emphasis, code, spoilers, links, mentions, times, lists, headings and quotes."""
WEBHOOK_URL: Final = re.compile(
    r"(https://(?:\w+\.)?discord(?:app)?\.com/api)(?:/v\d+)?(/webhooks/[^?#]*)\??([^#]*)",
    re.IGNORECASE,
)


def layout(message: Message) -> dict[str, Any]:
    """Return a message that mentions nobody: its headline, and an embed with the rest."""
    body = _text(message.body(MAX_TEXT), MAX_TEXT)
    link = f"[Open the job](<{message.link}>)" if message.link else ""
    fields = [
        {"name": label, "value": _text(value, MAX_FIELD), "inline": True}
        for label, value in message.facts
    ]
    embed: dict[str, Any] = {"color": int(COLORS[message.tone][1:], 16)}
    if description := "\n".join(filter(None, (body, link))):
        embed["description"] = description
    if fields:
        embed["fields"] = fields
    content = {"content": _text(message.headline, MAX_TEXT), "allowed_mentions": {"parse": []}}
    return content | ({"embeds": [embed]} if description or fields else {})


def _text(text: str, limit: int) -> str:
    """Return a text that is shown as it is."""
    return MARKUP.sub(r"\\\g<0>", cut(text, limit))


def with_version(url: SecretStr) -> SecretStr:
    """Return Discord's URL for version 10, and so that it responds after the message is saved.

    The URL that Discord shows is of version 6, which has pauses in milliseconds.
    """
    if found := WEBHOOK_URL.fullmatch(url.get_secret_value()):
        query = "&".join(filter(None, (found[3], "wait=true")))
        return SecretStr(f"{found[1]}/v10{found[2]}?{query}")
    return url


def pause(response: Response) -> float | None:
    """Return the seconds to wait in the body of a 429."""
    seconds = (json_fields(response) or {}).get("retry_after")
    return seconds if isinstance(seconds, int | float) and seconds >= 0 else None


class DiscordSettings(ChatSettings):
    """The settings of a sink for Discord."""

    url: Annotated[SecretUrl, AfterValidator(with_version)] = setting(
        ..., "URL of the webhook that messages are sent to"
    )


KIND: Final = chat_kind(layout, DiscordSettings, pause)
